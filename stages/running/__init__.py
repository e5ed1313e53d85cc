"""Where artifacts run: one module per kind of device, each a `runner.Runner`."""
