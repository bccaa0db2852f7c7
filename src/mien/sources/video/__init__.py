"""Video decoding: every packet accounted for, one clock, square pixels and right colours."""
