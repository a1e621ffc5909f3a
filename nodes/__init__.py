"""The node classes: one file a node, widgets and one call into ``core``."""
