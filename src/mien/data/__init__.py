"""Labelled data: one file per data set, each ending in the same label table.

A label table is a data frame with one row per face: `image` (path, encoded bytes, or RGB uint8
array), `video`, `frame`, `subject`, `split`, `points` (five points as 10 numbers in image pixels,
or None), and one column per label (`Task.columns`); NaN means "not annotated". The codes of a
source go no further than its module in `sets`, which loads it from its settings; `label_table`
splits and counts labels, and `label_checks` checks them.
"""
