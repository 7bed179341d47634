"""Trees of the archive: administrative divisions, business groups, platforms."""
