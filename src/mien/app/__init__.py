"""A page and an API on this computer: what `mien app` and `mien serve` start."""
