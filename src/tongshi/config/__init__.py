"""Typed configuration: frozen, checked at start, unknown keys refused; see ``config.example.toml``."""
