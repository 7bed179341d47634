"""Measurements of our own parts, each beside a raw baseline in the same run."""
