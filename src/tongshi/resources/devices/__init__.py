"""Device archives: what is known of each camera, whose it is, and whether it works."""
