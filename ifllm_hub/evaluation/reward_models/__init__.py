"""Reward models of any make under one protocol."""
