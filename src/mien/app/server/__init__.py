"""The HTTP side of an app: who may ask, what is answered, and how it is served."""
