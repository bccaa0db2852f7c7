"""What a card must say of a network and nobody can measure."""

from pydantic import Field

from mien.bundles.card_parts import Strict, Terms

__all__ = ["CardSettings"]


class CardSettings(Strict):
    """What a card must say and nobody can measure."""

    summary: str = ""
    """one sentence on what the bundle gives; empty = tasks and backbone"""
    licence: str = "not stated"
    """of the weights"""
    limits: tuple[str, ...] = ()
    """where it fails, beside what follows from the data"""
    supervised_by: dict[str, str] = Field(default_factory=dict)
    """by task family, where its labels come from; a family left out says what is known of the data
    sets"""
    terms: tuple[Terms, ...] = ()
    """data that the network has seen. An entry named like a data set of this file (its folder or
    file) replaces what is known of that set; others are added"""
    recipe: str = ""
    """the command that makes it again; empty = mien train and mien export"""
