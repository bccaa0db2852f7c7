"""Appearance: people, what their skin and hair look like, light and shadow."""
