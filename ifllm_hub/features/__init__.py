"""Reading behavior as named numbers."""
