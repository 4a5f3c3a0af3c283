"""What a run writes and a report reads: JSON records, and the manifest of a checkpoint."""
