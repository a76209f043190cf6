"""The report's figures: data, models, and reading trajectories."""
