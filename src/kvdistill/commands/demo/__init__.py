"""``kvdistill demo``: train and evaluate a small student on the embedded task, with a report."""
