"""Geometry: the head's mesh and where it comes from, the camera, and triangles to pixels."""
