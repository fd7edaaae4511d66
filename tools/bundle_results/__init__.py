"""The documentation's page on what the shipped bundle was measured to do, beside the paper."""
