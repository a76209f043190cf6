"""The store -> a dataset, live scores, publication, and later upkeep."""
