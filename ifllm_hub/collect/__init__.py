"""The collector: a browser tracker, the server it reports to, and the way from there to the dataset's configs."""

# What the help of the command line shows, also where the packages that the rest of the room needs are not installed.
# How often a dataset repo is brought up to date, minutes, and the fewest people of whom anything is published.
PUBLISH_MINUTES, LEAST_PEOPLE = 60, 5
# Whom a study's data are shared with unless the study names somebody, for its consent text.
NOBODY = "nobody"
# The version of the consent text: of a study's, of the adapters', and of what pages report unless they name another.
CONSENT = "2026-11-01"
