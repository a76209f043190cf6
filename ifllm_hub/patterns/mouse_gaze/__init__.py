"""Mouse and gaze: how they go together, and which of them tells preferences of which answers."""
