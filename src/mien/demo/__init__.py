"""Things to try mien on: a portrait, a clip of it, and a study of drawn people."""

from mien.demo.portrait import film, portrait

__all__ = ["film", "portrait"]
