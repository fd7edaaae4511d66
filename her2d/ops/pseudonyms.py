"""File names that carry patients' identifiers, kept out of the log by a keyed hash.

The same name and key give the same pseudonym, so one slide's lines still belong together; without
the key nobody can test a guess (BLAKE2b in keyed mode, RFC 7693).
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

_NAMED = ("file", "path", "heatmap")
_DIGEST_BYTES = 6


class Pseudonyms:
    """Replaces slides' names in a rendered log line, whatever field they stand in.

    Args:
        key: at most 64 bytes; longer ones are hashed first.
        extensions: file extensions of slides, with their dots.
    """

    def __init__(self, key: bytes, extensions: Sequence[str]) -> None:
        self._key = (
            key if len(key) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.sha256(key).digest()
        )
        kinds = "|".join(re.escape(extension) for extension in (*extensions, ".png"))
        # What nobody named as a file but looks like one; better too much hidden than too little.
        self._looks_like_one = re.compile(rf'[^/"\\=]*?(?:{kinds})(?!\w)', re.IGNORECASE)

    def of(self, name: str) -> str:
        """The pseudonym of a file name; its extension stays."""
        path = PurePath(name)
        digest = hashlib.blake2b(path.stem.encode(), key=self._key, digest_size=_DIGEST_BYTES)
        return f"slide-{digest.hexdigest()}{path.suffix}"

    def in_line(self, line: str, fields: dict[str, Any]) -> str:
        """`line`, rendered from `fields`, with every slide's name replaced."""
        for key in _NAMED:
            if value := fields.get(key):
                path = PurePath(str(value))
                folder = str(path.parent)
                # Folders are often named after patients as well.
                if len(folder) > 1:
                    line = line.replace(folder, "…")
                line = line.replace(path.stem, PurePath(self.of(path.name)).stem)
        return self._looks_like_one.sub(self._hidden, line)

    def _hidden(self, found: re.Match[str]) -> str:
        text = found[0]
        return text if "slide-" in text else self.of(text)
