"""Settings of a study's steps: checked when they are made, and never changed."""

from pydantic import BaseModel, ConfigDict

__all__ = ["StrictSettings"]


class StrictSettings(BaseModel):
    """Refuses unknown keys and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
