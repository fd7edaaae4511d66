"""Formats beyond TIFF, read by other libraries: the extra `her2d[formats]`."""
