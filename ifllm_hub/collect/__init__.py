"""The collector: a tracker for chat pages, and the replay of a recorded reading."""
