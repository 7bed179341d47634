"""Tags (标签): groups, definitions and values by Annex D, and the tags of devices."""
