"""Table formats of other programs that are written row by row, as mien's own are."""
