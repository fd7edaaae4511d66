"""The contestants, each a program of its own that `tools.peers.served` serves."""
