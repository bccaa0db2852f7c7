"""Scores over time: of a stream's readings, and of the rows of a label table."""
