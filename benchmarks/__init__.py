"""What is measured about Tinsmith itself; `make bench` runs it, no test asserts a time."""

import stages  # noqa: F401 (its switches against telemetry hold here too)
