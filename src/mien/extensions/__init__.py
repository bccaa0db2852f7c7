"""Extensions: recipe steps, heads, losses, data sets and writers of other distributions.

A distribution names what it brings in its entry points. Its code is imported only when settings
name it. `mien.extend` holds the classes to build on.
"""
