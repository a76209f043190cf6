"""A study as a web app: its flow, pages and models, and how to run it as a Space."""
