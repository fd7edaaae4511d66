"""A folder -> the queue: discovery, settling, sweeps and file-system events."""
