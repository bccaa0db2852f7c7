"""What leaves the package: tables, their data dictionary, and annotated films and pictures. Records never draw or save themselves."""
