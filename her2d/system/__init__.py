"""What the operating system offers; imports nothing else of her2d."""
