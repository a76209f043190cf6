"""The raw IFLLM release, read without losing a row."""
