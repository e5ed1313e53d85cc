"""Language models that write text with several runtimes, side by side: `make bench-generate`."""
