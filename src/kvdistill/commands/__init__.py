"""The subcommands of the command line, one file or folder each."""
