"""What was said in signalling, session by session: for people who must find out why something failed."""
