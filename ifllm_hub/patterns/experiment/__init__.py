"""The study's experiment: what asking for bullet points causes."""
