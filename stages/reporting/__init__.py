"""What the report is made of: evidence read from `build/`, charts drawn from it, one page around them."""
