"""How people read: measures of single readings, what they vary with, and what they tell about preferences."""
