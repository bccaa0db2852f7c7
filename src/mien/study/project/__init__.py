"""A study as a file: which recordings, which people, which steps; and the run of them all."""
