"""The rules that a device archive is held against; a broken one is an issue and never loses the record."""
