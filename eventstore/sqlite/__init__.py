"""The embedded engine: the log in one SQLite file, shared by any number of processes."""
