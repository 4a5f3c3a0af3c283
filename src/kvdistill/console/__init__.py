"""Command-line helpers: messages, paths that a user types, progress bars, signals and exit codes."""
