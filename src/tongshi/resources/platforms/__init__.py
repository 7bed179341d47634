"""Platforms: this one and its neighbours above, below and beside."""
