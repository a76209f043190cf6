"""The study's release: its archive, lines, questions and ticks, with every row accounted for."""
