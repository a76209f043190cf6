"""The store -> a dataset, live scores, publication, and what must be done afterwards."""
