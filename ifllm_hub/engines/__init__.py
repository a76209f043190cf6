"""Shards of a dataset one after the other in this process or many at a time on Ray, in folders here or elsewhere."""
