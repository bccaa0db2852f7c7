"""Recipes: the papers' systems as YAML files in ``library``, and the steps they are made of.

`schema` says what a recipe may hold, `steps` what each step does; `engine` runs them, and `report`
compares the results with the paper's.
"""
