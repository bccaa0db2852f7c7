"""Checkpoints of others: which network a file fits, and their names of tensors."""
