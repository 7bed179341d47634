"""Live viewing: shared streams, sessions, tickets, PTZ."""
