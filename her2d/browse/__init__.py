"""Results in a web browser on this machine, served by Datasette with additional pages."""
