"""What every room knows: configurations, records, methods, errors, and the paper's printed numbers."""
