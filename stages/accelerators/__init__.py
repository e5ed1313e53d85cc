"""What accelerators take of an artifact, told on the host from rules that cite their sources.

A room of its own and no part of `targets/NAME/`: conversions and artifacts depend on those packages, and a rule that
was read anew must rebuild neither.
"""
