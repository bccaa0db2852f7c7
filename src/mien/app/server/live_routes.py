"""Routes of what is read while it happens."""

from fastapi import APIRouter

__all__ = ["router"]

router = APIRouter(prefix="/api/live", tags=["live"])
