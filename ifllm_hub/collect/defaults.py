"""Defaults that the help of the command line shows, apart from `settings`, whose imports it need not wait for."""

# How often a dataset repo is brought up to date, minutes, and the fewest people of whom anything is published.
PUBLISH_MINUTES, LEAST_PEOPLE = 60, 5
# Whom a study's data are shared with, for its consent text, unless it is said.
NOBODY = "nobody"
# The version of the consent text: of a study's, of the adapters', and of what pages report unless it is said.
CONSENT = "2026-11-01"
