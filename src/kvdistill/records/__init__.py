"""Files that a run writes and a report reads: JSON records, metrics, and the manifest of a checkpoint."""
