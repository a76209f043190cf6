"""The study's release: its archive, lines, questions and ticks, read without losing a row."""
