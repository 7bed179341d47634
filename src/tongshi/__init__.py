"""Tongshi (通视): a video data resource management platform after DB31DSJ/Z 001-2024."""

__version__ = "0.1.0"
