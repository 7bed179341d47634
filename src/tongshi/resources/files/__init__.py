"""Archives as files and as database views: the second and third way to share (DB31DSJ/Z 001-2024 6.1 c)."""
