"""Dataset folders and archives of releases as somebody could damage or forge them, and what becomes of each."""
