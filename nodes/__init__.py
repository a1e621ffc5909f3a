"""Node classes. One file per node: its widgets and one call into ``core``."""
