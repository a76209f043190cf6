"""Recordings -> questions and trajectories: the contract of a source, the study's release, and a simulated one."""
