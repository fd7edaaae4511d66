"""Results in a web browser on this machine: Datasette with pages of its own."""
