"""Random histories of platforms that exchange archives while everything around them fails."""
