"""Audit: who did what to which video resource, in a chain that shows every later change."""
