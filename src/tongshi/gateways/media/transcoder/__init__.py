"""Decoding and coding in processes of their own: few, niced, bounded, killed when they hang."""
