"""The folders that results go into: on disk, and at addresses."""
