"""Reading behaviour as named numbers."""
