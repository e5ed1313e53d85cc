"""What a verdict needs beyond a variant's own thresholds: its parent, its host, the build released last."""
