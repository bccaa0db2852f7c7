"""How the bundles that come with mien were trained."""
