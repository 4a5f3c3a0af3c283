"""Reports, figures and statistics, made from run records on disk alone."""
