"""Prompts of held-out workers, and a model's answers to them."""
