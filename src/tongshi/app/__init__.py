"""The composition root: builds every object once, starts and stops them in order."""
