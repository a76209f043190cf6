"""The collector: a browser tracker, the server it reports to, and the export to the dataset's configs."""

# Shown in the command line's help, even if the packages that the rest of this package needs are not installed.
# How often a dataset repo is updated, in minutes, and the fewest people whose data are published.
PUBLISH_MINUTES, LEAST_PEOPLE = 60, 5
# Who a study's data are shared with unless the study names somebody, for its consent text.
NOBODY = "nobody"
# The version of the consent text: used by studies and adapters, and by pages that name no other.
CONSENT = "2026-11-29"
