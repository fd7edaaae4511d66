"""Decode -> segment -> classify -> integrate -> score."""
