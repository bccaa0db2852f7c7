"""Rendered heads with known labels: a mesh in several shapes, lit, photographed and labelled."""
