"""Somebody's recordings -> questions and trajectories: the study's release, and a simulated one."""
