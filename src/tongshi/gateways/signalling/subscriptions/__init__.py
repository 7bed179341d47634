"""Subscriptions: what we tell platforms above, and what we let those below tell us."""
