"""One package per platform: convert, lower to a precision, run."""
