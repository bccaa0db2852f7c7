"""From a run to a bundle: network, measured card, provenance, all files complete or none."""
