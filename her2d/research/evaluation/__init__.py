"""How good the models are, as the paper measured it, and where they fail."""
