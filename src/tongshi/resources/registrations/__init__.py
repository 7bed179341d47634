"""Registrations: who may register by SIP, and who is registered where."""
