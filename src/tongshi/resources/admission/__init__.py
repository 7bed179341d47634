"""Admission: who was refused by signalling, who is banned, which device is no longer the one we knew."""
