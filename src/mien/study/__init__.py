"""From films of people to a study: rows, baselines, segments, events, summaries, contrasts.

`mien.study.project` runs a whole study from its file, and the other rooms hold its steps.
"""
