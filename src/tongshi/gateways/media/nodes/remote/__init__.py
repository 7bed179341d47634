"""Media nodes of our own in other processes: what goes over the wire, and both of its ends."""
