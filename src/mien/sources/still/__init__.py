"""Still and animated pictures: decoding with Pillow, libjpeg and libheif, and their damage."""
