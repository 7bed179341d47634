"""What was said in signalling, kept in memory within bounds and told in words."""
