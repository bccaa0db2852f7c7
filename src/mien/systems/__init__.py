"""Systems of several networks: what becomes of their scores, on tables and over films."""
