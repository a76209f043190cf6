"""Judging what alignment bought: answers, judgments of them, and what these show."""
