"""The Hub dataset: its schema, the builder that fills it, and its card."""
