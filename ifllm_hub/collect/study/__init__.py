"""A study as a web app: its flow, pages, models, and a Space of it."""
