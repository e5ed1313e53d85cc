"""What is measured about Tinsmith itself; `make bench` runs it, no test asserts a time."""
