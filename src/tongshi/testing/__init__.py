"""Simulators that are part of the product: cameras with a living picture, a lossy link, a viewer."""
