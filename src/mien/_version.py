"""The version of mien, and the version of the numbers that recipes keep on disk."""

__version__ = "0.2.0"

RESULTS_VERSION = "0.1.0"
"""The release since which finished recipe steps hold what this one would compute.

It is to be raised when a step gives other numbers.
"""
