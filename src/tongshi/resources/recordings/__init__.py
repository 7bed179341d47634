"""A platform's own recordings (中心录像)."""
