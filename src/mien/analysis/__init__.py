"""Reading faces from Python: options, loaded networks, the pipeline, `analyze` and `Reader`."""
