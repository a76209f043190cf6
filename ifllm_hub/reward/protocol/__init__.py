"""How the accuracy of a reward model is claimed: pairs, folds, scores, and the leaderboard."""
