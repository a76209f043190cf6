"""Preference data and the trainers that use it."""
