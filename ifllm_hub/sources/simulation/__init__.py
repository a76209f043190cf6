"""A simulated release whose truth is known: people, the page they see, their reading, and the texts."""
