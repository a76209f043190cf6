"""Somebody's recordings -> questions and trajectories: the contract, the study's release, and a simulated one."""
