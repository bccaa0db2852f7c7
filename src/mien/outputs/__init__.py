"""What leaves the package: tables, data dictionaries, and annotated videos and pictures."""
