"""From a folder to the queue: discovery, settling, sweeps and file-system events."""
