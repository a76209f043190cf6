"""OASST-ETC: 24 people read pairs of answers before a laboratory eye tracker (arXiv 2503.10927)."""
