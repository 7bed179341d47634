"""The demonstration: a city, two districts, a department and twelve cameras on loopback."""
