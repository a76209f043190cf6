"""Around every trainer: arguments, launching, resuming, saving, the card, and the push to the Hub."""
