"""Finished tables in the files of other programs: annotation, statistics, neuroscience."""
