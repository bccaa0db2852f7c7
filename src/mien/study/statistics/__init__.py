"""Statistics over time: weighted by how long frames stand, with intervals by bootstrap."""
