"""One row per participant per frame: how long it stands, whether it is usable, what is normal."""
