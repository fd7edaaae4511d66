"""Checks of an installation, for `her2d doctor`."""
