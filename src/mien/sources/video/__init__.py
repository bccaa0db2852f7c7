"""Video decoding: packets accounted for, one clock, square pixels, colours by the stream's own flags."""
