"""Hiding faces in overlays: where they may be, and what is put over them."""
