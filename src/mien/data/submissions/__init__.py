"""The files that challenges take.

`formats` is the table of them, `write` makes one from scores, `check` finds what is wrong with one.
"""
