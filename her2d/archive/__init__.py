"""Finished originals out of the inboxes."""
