"""Recording in other people's chat interfaces."""
