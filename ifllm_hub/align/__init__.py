"""Preference optimization: the trainer, policies, and the comparison of label sources."""
