"""Parse TOML that a person wrote, or an attacker."""

import tomllib
from typing import Any


def parse_toml(content: bytes) -> dict[str, Any]:
    """Return the document.

    Raises:
        ValueError: it is not UTF-8 or not TOML, is nested too deeply, or holds a number of
            thousands of digits.
    """
    try:
        return tomllib.loads(content.decode())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
