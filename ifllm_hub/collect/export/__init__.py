"""The store -> a dataset, its publication, and later upkeep."""
