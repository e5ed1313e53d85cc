"""The same checkpoints built by Olive, by Optimum and by us, and measured beside each other in one process."""
