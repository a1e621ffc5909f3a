"""Sample every masked region again, enlarged, and blend it in."""
