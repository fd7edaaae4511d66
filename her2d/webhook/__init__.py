"""Events to another system over HTTP."""
