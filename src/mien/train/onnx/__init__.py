"""From a trained network to ONNX: export, 8-bit quantisation, heads merged onto an extractor."""
