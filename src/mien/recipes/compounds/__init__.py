"""Compound expressions of videos: faces of all frames, what they become, and its variants."""
