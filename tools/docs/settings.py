"""Settings, from the pydantic models, config.toml's comments, and what a reload changes."""

import re
from pathlib import Path
from typing import Any

from her2d.daemon.reload import merged
from her2d.settings import Settings
from tools.docs.markdown import code, introduction, page, table
from tools.docs.models import allowed, default_of

CONFIG = Path("config.toml")
_KEY = re.compile(r"^(# )?(\w+) = ")


def settings_page() -> str:
    """The page `reference/settings.md`."""
    notes, live = comments(), live_keys()
    sections = Settings.model_fields
    parts = []
    for section, field in sections.items():
        model = type(field.default)
        schema = model.model_json_schema()
        rows = [
            [
                code(key),
                allowed(value),
                default_of(value, required=False),
                "at once" if f"{section}.{key}" in live else "next start",
                f"{notes.get(f'{section}.{key}', '')} {code(variable(section, key))}",
            ]
            for key, value in schema["properties"].items()
        ]
        header = ["key", "allowed", "default", "reload", "what it does, and its variable"]
        parts.append(f"## [{section}] {{ #{section} }}\n\n{model.__doc__}\n\n{table(header, rows)}")
    return page("Settings", introduction("settings"), *parts)


def variable(section: str, key: str) -> str:
    """The environment variable of a key."""
    return f"HER2D_{section.upper()}__{key.upper()}"


def comments() -> dict[str, str]:
    """`section.key` -> what config.toml says above it; keys that share a comment all have it."""
    notes: dict[str, str] = {}
    section, text, is_open = "", [""], True
    for line in CONFIG.read_text().splitlines():
        key = _KEY.match(line)
        if line.startswith("["):
            section, text, is_open = line.strip("[]"), [], True
        elif key is not None and _is_key(section, key[2]):
            notes[f"{section}.{key[2]}"] = " ".join(text)
            is_open = False
        elif line.startswith("#"):
            text = [*text, line.lstrip("# ")] if is_open else [line.lstrip("# ")]
            is_open = True
        elif not line:
            text, is_open = [], True
    return notes


def live_keys() -> set[str]:
    """The keys that a reload changes at once, as the daemon itself tells them."""
    running = Settings()
    wanted = {
        section: getattr(running, section).model_copy(
            update={key: object() for key in type(getattr(running, section)).model_fields}
        )
        for section in Settings.model_fields
    }
    return set(merged(running, running.model_copy(update=wanted)).changed)


def _is_key(section: str, key: str) -> bool:
    field: Any = Settings.model_fields.get(section)
    return field is not None and key in type(field.default).model_fields
