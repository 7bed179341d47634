"""Typed configuration: frozen, checked at start, unknown keys refused. ``config.example.toml`` is the reference."""
