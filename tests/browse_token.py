"""The token of the servers that tests start."""

from her2d.browse.tokens import new_token

TOKEN = new_token()
