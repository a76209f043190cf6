"""Judging what alignment achieved: answers, judgments of them, and their analysis."""
