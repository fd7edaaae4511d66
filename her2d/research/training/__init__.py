"""Training as the paper describes it, every step resumable."""
