"""A tag for every word of a text: a day, a long word, or neither."""
