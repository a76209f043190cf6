"""Live scores, from what is in the store at the moment."""
