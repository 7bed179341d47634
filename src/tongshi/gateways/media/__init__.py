"""The driver of the native media engine and the viewers' listener."""
