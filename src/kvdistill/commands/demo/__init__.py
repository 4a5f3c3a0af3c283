"""``kvdistill demo``: the embedded task from data to report."""
