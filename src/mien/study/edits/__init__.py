"""What people correct by hand: names, tracks, excluded time and codes, beside a table."""
