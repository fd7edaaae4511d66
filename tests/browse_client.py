"""A client of the servers that tests start, and their token."""

import ssl

import httpx

from her2d.browse.tokens import new_token

TOKEN = new_token()
BEARER = {"authorization": f"Bearer {TOKEN}"}

_CONTEXT = ssl.create_default_context()  # httpx would make one for each request, which takes long


def get(url: str, headers: object = None, method: str = "GET") -> httpx.Response:
    """Send one request without a token, unless `headers` has it."""
    with browser() as client:
        return client.request(method, url, headers=headers)


def browser(**options: object) -> httpx.Client:
    """Return a client that keeps cookies."""
    return httpx.Client(verify=_CONTEXT, timeout=30, **options)
