"""Who may speak with us: strangers are slowed, guessers banned for a time, devices bound and recognised."""
