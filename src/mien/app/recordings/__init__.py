"""Finished tables as recordings: what is shown of them, and what people correct in them."""
