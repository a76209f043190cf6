"""The collector: a browser tracker, the server it reports to, and the way from there to the dataset's configs."""
