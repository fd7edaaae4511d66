"""Instruments for the engineers of her2d; nothing here is installed with it."""
