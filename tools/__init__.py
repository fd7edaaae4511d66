"""Tools for the engineers of her2d, which are not installed with it."""
