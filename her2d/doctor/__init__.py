"""What a new installation can get wrong."""
