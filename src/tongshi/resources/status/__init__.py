"""Running status of devices; DB31DSJ/Z 001-2024 Table E.2 rows 9 and 10."""
