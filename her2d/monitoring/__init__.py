"""What the people who keep her2d running see: metrics, probes, logs, service manager."""
