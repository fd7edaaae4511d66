"""Measure how fast a bundle runs on this machine, in engines and pipeline, beside its peak."""
