"""Judging what alignment bought: answers, judgements of them, and what these show."""
