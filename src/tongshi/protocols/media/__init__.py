"""What signalling knows of media: codec names and numbers, no packets."""
