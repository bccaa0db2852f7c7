"""Faces: found, followed, and cut out."""
