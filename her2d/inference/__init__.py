"""Engines: tiles -> numbers."""
