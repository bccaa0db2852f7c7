"""Still pictures: decoded through Pillow, libjpeg and libheif, damage noticed, animations as films."""
