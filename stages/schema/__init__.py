"""The schema of conf/, one module per Hydra group: types, ranges and valid choices, no defaults."""
