"""Peers of signalling: what they say of themselves, what they do, what an administrator knows."""
