"""Data sets: one module per kind of source, and what is done to every one of them."""
