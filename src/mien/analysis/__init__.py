"""Reading faces from Python: options, open networks, the pipeline, and the public `analyze` and `Reader`."""
