"""What all rooms speak of: configurations, records, errors, and what the paper prints."""
