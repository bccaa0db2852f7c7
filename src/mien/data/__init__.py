"""Labelled data: one file per data set, each ending in the same label table.

A label table is a data frame with one row per face: `image` (path, encoded bytes, or RGB uint8 array), `video`, `frame`,
`subject`, `split`, `points` (five points as 10 numbers in image pixels, or None), and one column per label
(`Task.columns`); NaN means "not annotated". The codes of a source end in its adapter. `sets` loads any data set from its
settings; `table` checks, splits and counts its labels.
"""
