"""Settings of training runs: strict YAML, checked without torch."""
