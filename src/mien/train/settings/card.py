"""What a card must say of a network and nobody can measure."""

from pydantic import Field

from mien.bundles.card import Strict, Terms

__all__ = ["CardSettings"]


class CardSettings(Strict):
    """What a card must say and nobody can measure.

    summary: one sentence on what the bundle gives; empty = tasks and backbone. licence: of the weights.
    limits: where it fails, beside what follows from the data. supervised_by: by task family, where its labels come from; a family left
        out says what is known of the data sets.
    terms: data that the network has seen. One named as a data set is here (its folder or file) speaks for that set; others are added.
    recipe: the command that makes it again; empty = mien train and mien export.
    """

    summary: str = ""
    licence: str = "not stated"
    limits: tuple[str, ...] = ()
    supervised_by: dict[str, str] = Field(default_factory=dict)
    terms: tuple[Terms, ...] = ()
    recipe: str = ""
