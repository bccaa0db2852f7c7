"""From a trained network to ONNX: export, quantisation to 8 bits, and heads merged onto the network they read."""
