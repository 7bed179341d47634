"""Alarms: kept, shown, acknowledged, and passed on."""
