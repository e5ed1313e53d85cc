"""What every stage shares: errors, parameters, artifacts, metrics, statistics."""
