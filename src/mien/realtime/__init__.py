"""Readings while they happen: live sources, what is sent where, and how late it is."""
