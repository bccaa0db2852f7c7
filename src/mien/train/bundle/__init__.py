"""From a run to a bundle: network, measured card, provenance; all files or none."""
