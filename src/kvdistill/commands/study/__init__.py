"""``kvdistill study``: run many arms over seeds from one file, report on them, and try a candidate task."""
