"""`her2d run`: the service and its threads."""
