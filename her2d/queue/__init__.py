"""The durable job queue."""
