"""The page about how people read."""
