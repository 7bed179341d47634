"""The service directory: every operation and stream service, what it is, how it does, how to apply for it."""
