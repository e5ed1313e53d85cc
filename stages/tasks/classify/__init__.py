"""A text to one of several labels."""
