"""Plans (预案): catalogues by Table B.1, and ordered lists of devices in them."""
