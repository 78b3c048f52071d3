"""What a study aims at: which trials are chosen, and what is known of one before it runs."""
