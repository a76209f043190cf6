"""Alignment to first order: what a small step on any labels does to a policy, from one gradient of each answer."""
