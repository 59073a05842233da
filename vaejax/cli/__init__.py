"""The command line: flags, and what each script does."""
