"""What a report says of two metrics and of constraints."""
