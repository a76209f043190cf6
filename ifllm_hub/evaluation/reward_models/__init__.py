"""Reward models of any kind under one protocol."""
