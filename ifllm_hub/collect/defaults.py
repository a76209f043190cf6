"""Defaults that the help of the command line shows, apart from `settings`, whose imports it need not wait for."""

# How often a dataset repo is brought up to date, minutes, and the fewest people of whom anything is published.
PUBLISH_MINUTES, LEAST_PEOPLE = 60, 5
# Whom a study's data are shared with, for its consent text, unless it is said.
NOBODY = "nobody"
