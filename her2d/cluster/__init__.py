"""Scoring on a cluster of machines, with Ray; the queue and the results stay in one daemon."""
