"""The data sets of the ABAW challenges and those that its systems learn from, in the layouts they are given out in.

One module per data set, each ending in the label table of `mien.data`; `lists` reads the lists that submissions answer to, and
`mien.data.abaw.sets` holds the settings. What a loader had to leave out, or found twice, is said in `table.attrs["notes"]`,
a list of lines.
"""
