"""Text to mask."""
