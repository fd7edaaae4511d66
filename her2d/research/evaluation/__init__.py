"""Evaluate a study's models as the paper did, and publish them as a bundle."""
