"""Routes of studies."""

from fastapi import APIRouter

__all__ = ["router"]

router = APIRouter(prefix="/api/studies", tags=["studies"])
