"""The reward model, the protocol its accuracy is claimed by, and its use as a TRL reward function."""
