"""Asking a language model which of two answers is better, and how good it is at that."""
