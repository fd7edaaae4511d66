"""Delivery of events to another system over HTTP."""
