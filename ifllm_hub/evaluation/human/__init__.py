"""Blinded rating by people: the task, its page, their files, and what these say."""
