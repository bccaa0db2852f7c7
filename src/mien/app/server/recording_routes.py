"""Routes of finished recordings."""

from fastapi import APIRouter

__all__ = ["router"]

router = APIRouter(prefix="/api/recordings", tags=["recordings"])
