"""Run folders: checkpoints, curves, label tables, and inference with the trained network."""
