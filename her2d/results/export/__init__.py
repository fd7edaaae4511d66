"""A run's result as files for other programs. Import the module of the format wanted: some need
the extra `export`."""
