"""One scan -> one recorded result."""
