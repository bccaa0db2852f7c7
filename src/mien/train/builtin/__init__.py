"""Training of the bundles that come with mien."""
