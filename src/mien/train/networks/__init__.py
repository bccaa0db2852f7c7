"""Networks: backbones, heads, and the weights that they start from."""
