"""Simulation of a scanner: slides, cohorts, and files that arrive at its pace."""
