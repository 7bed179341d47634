"""Pictures taken on demand: ordered of devices or of a stream, received, kept, shown."""
