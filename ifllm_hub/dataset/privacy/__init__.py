"""Who may be in a dataset, and how well the people in it can be told apart."""
