"""What replicas know together: each one's share of every limit. Start with `base`, then `ledger`, then `shares`."""
