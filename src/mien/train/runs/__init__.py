"""Run folders: checkpoints and curves, the run's label tables, and inference with its trained network."""
