"""Protocols without I/O: bytes and messages in, messages and bytes out."""
