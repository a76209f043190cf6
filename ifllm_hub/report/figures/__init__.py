"""The report's figures: data, models, and where in an answer a reader was."""
