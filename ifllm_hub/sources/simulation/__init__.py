"""A simulated release with known truth: people, a page, their reading, and texts."""
