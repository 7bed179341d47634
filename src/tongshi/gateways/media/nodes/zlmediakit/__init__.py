"""ZLMediaKit as a media node: its HTTP interface, its hooks, and the ingest that speaks for its streams."""
