"""Engines that compute masks and probabilities from tiles."""
