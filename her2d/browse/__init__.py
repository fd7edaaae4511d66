"""Results in a web browser on this machine."""
