"""The terminal: messages, paths that a user types, progress bars, signals and exit codes."""
