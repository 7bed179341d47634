"""Media nodes: which one opens a stream, our own engine as one, ZLMediaKit as another."""
