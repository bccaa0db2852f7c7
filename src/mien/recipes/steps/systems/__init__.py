"""The step that makes a system of everything a step's scores come from."""
