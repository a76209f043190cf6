"""What the browser talks to: routes, limits, tokens, and the form of what comes in."""
