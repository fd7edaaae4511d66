"""Read whole-slide scans: from a file on disk to tiles in memory."""
