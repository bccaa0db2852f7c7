"""Faces: detection, tracking, orientation and the one crop-and-resize."""
