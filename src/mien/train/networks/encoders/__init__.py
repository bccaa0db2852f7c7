"""Encoders that were trained elsewhere: their pixels, their checkpoints, and adapters to them."""
