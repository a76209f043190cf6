"""How much readings vary: between workers, in kinds of paths, with length and layout."""
