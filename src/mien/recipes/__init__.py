"""Recipes: the papers' systems as YAML files in ``library``, and the few steps that they are made of.

`schema` says what a recipe may hold, `steps` what each step does, `engine` runs them and `report` compares with the paper.
"""
