"""Bundles: a card and a network. What training wrote, running reads, and asks nothing else."""

from mien.bundles.card import AffectCard, FaceCard, read_card
from mien.bundles.store import Bundle, Model, bundles, load, load_detector, open_bundle

__all__ = [
    "AffectCard",
    "Bundle",
    "FaceCard",
    "Model",
    "bundles",
    "load",
    "load_detector",
    "open_bundle",
    "read_card",
]
