"""Recordings in the formats of eye-movement research: pymovements and Eye-Tracking-BIDS."""
