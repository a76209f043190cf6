"""Labels with flip probabilities, and preference pairs as TRL trains on them."""
