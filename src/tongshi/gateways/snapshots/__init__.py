"""Where devices bring their snapshots."""
