"""One module of routes per topic."""
