"""Experiments on readers: who gets which model, and what differs between those who got different ones."""
