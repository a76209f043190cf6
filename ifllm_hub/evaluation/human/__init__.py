"""Blinded human rating: the task, its page, the raters' files, and their analysis."""
