"""The server that browsers talk to: routes, limits, and errors."""
