"""From run records to verdicts, figures and reports; never a live trainer."""
