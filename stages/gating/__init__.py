"""What makes a verdict: a variant's thresholds, its parent, its host, the build released last."""
