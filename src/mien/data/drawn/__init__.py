"""Drawn faces: pictures whose every label is known, because they were drawn from it."""
