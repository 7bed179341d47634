"""Sockets and engines around the protocols."""
