"""A scan on disk -> tiles in memory."""
