"""What is measured, in which unit and direction, and how certain it is."""
