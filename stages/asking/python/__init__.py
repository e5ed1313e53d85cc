"""One program per Python client, run in its environment: the standard library, numpy and the client, nothing else."""
