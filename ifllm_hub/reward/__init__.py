"""The reward model, the protocol behind its claimed accuracy, and its use as a TRL reward function."""
