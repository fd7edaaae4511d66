"""Replace names of files and folders in the log by a keyed hash, because they may name patients.

The same name and key give the same pseudonym, so that the lines of one slide can still be matched.
Without the key, nobody can test whether a pseudonym belongs to a name (BLAKE2b in keyed mode, RFC
7693).

Names are replaced in the fields of a line, before it is rendered, quoted or escaped. If it is
unclear where a name ends in a sentence, too much is hidden rather than too little.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

# Fields that are paths; all other fields are texts that may contain paths.
_PATHS = frozenset({"file", "path", "folder", "heatmap", "inbox"})
# Fields that never contain the name of a file; frames are positions in the code.
_NAMELESS = frozenset({"timestamp", "level", "exc_type", "frames", "_record", "_from_structlog"})
_DIGEST_BYTES = 6
_PICTURES = (".png", ".jpg")
# Text quoted and escaped by repr(), as file names are in Python's error messages.
_QUOTED = re.compile(r"""(?<!\w)(['"])((?:\\.|(?!\1(?!\w))[^\\])*)\1(?!\w)""", re.DOTALL)
_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))", re.DOTALL)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t"}


class Pseudonyms:
    """A structlog processor that replaces the names of files and folders in all fields.

    Args:
        key: the secret key; one longer than 64 bytes is hashed first.
        extensions: file extensions to keep, with their dots.
        below: folders whose own path is not secret; every name below them is replaced.
    """

    def __init__(self, key: bytes, extensions: Sequence[str], below: Sequence[Path] = ()) -> None:
        self._key = (
            key if len(key) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.sha256(key).digest()
        )
        kinds = "|".join(re.escape(kind) for kind in (*extensions, *_PICTURES) if kind)
        self._kinds = re.compile(rf"(?:{kinds})+\Z", re.IGNORECASE)
        self._ends_a_file = re.compile(rf"(?:{kinds})(?!\w)", re.IGNORECASE)
        self._below: tuple[str, ...] = ()
        self.hide_below(below)

    def hide_below(self, folders: Sequence[Path]) -> None:
        """Replace the names below these folders too."""
        tops = {str(folder).rstrip("/") + "/" for folder in folders}
        # The longest first, so that a folder within a folder of the list is not replaced.
        self._below = tuple(sorted({*self._below, *tops}, key=len, reverse=True))

    def __call__(self, logger: Any, method: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a line with every name replaced."""
        known = _regex_of(set(self._named_in(fields)))
        # The events of her2d are constants; those of libraries are sentences with names in them.
        kept = {*_NAMELESS, "event"} if fields.get("_from_structlog") else _NAMELESS
        return {
            key: value if key in kept else self._value(key, value, known)
            for key, value in fields.items()
        }

    def of(self, name: str) -> str:
        """Return the pseudonym of a file's or folder's name, which keeps a slide's extension."""
        stem, kind = self._split(name)
        digest = hashlib.blake2b(
            stem.encode("utf-8", "backslashreplace"), key=self._key, digest_size=_DIGEST_BYTES
        )
        return f"slide-{digest.hexdigest()}{kind}"

    def _split(self, name: str) -> tuple[str, str]:
        found = self._kinds.search(name)
        return (name[: found.start()], found[0]) if found else (name, "")

    def _of_path(self, path: str) -> str:
        """Return the path with all names replaced except those of the folders in `below`."""
        if self._is_public(path):
            return path
        if top := self._top_of(path):
            return top + self._of_names(path[len(top) :])
        folder, slash, name = path.rpartition("/")
        return ("…" if folder else "") + slash + self.of(name)

    def _of_names(self, path: str) -> str:
        return "/".join(self.of(name) if name else "" for name in path.split("/"))

    def _is_public(self, path: str) -> bool:
        return any(top.startswith(f"{path}/") for top in self._below)

    def _top_of(self, path: str) -> str:
        return next((top for top in self._below if path.startswith(top)), "")

    def _named_in(self, fields: Mapping[str, Any]) -> Iterator[str]:
        """Yield the names in those fields of a line that are paths."""
        for key, value in fields.items():
            if isinstance(value, (Mapping, list)):
                for inner in value if isinstance(value, list) else [value]:
                    if isinstance(inner, Mapping):
                        yield from self._named_in(inner)
            elif key in _PATHS and value and not self._is_public(str(value)):
                top = self._top_of(str(value))
                path = PurePath(str(value)[len(top) :])
                yield from (path.name, self._split(path.name)[0])
                yield from path.parts[:-1] if not path.is_absolute() else (str(path.parent),)

    def _value(self, key: str, value: Any, known: "re.Pattern[str] | None") -> Any:
        match value:
            case bool() | int() | float() | None:
                return value
            case Mapping():
                return {
                    inner: item if inner in _NAMELESS else self._value(inner, item, known)
                    for inner, item in value.items()
                }
            case list() | tuple() | set() | frozenset():
                return [self._value(key, item, known) for item in value]
            case PurePath():
                return self._of_path(str(value))
            case _:
                text = value if isinstance(value, str) else repr(value)
                return self._of_path(text) if key in _PATHS else self._text(text, known)

    def _text(self, text: str, known: "re.Pattern[str] | None") -> str:
        """Replace names in a sentence, starting with quoted paths, whose ends are clear."""
        done: list[str] = []
        at = 0
        for quoted in _QUOTED.finditer(text):
            path = _ESCAPED.sub(_unescaped, quoted[2])
            if self._top_of(path) or self._kinds.search(path):
                before = self._with_bare_paths(text[at : quoted.start()], known)
                done += [before, f"'{self._of_path(path)}'"]
                at = quoted.end()
        return "".join([*done, self._with_bare_paths(text[at:], known)])

    def _with_bare_paths(self, text: str, known: "re.Pattern[str] | None") -> str:
        places = [(text.find(top), top) for top in self._below if top in text]
        if not places:
            return self._with_known_names(text, known)
        start, top = min(places, key=lambda place: (place[0], -len(place[1])))
        end = start + len(top)
        rest = self._rest_of_path(text[end:], known)
        return self._with_known_names(text[:start], known) + top + rest

    def _rest_of_path(self, text: str, known: "re.Pattern[str] | None") -> str:
        """Replace a path that ends with the last known file name, or else with the text."""
        files = [name for name in known.finditer(text) if self._split(name[0])[1]] if known else []
        end = files[-1].end() if files else len(text)
        return self._of_names(text[:end]) + self._with_bare_paths(text[end:], known)

    def _with_known_names(self, text: str, known: "re.Pattern[str] | None") -> str:
        pieces = known.split(text) if known is not None else [text]
        return "".join(
            self.of(piece) if number % 2 else self._with_unknown_files(piece)
            for number, piece in enumerate(pieces)
        )

    def _with_unknown_files(self, text: str) -> str:
        """Replace everything before a file extension, since the start of a name is unknown."""
        done: list[str] = []
        at = 0
        for end in self._ends_a_file.finditer(text):
            done.append(self.of(text[at : end.end()]))
            at = end.end()
        return "".join([*done, text[at:]])


def _regex_of(names: Collection[str]) -> "re.Pattern[str] | None":
    """Return a regular expression that finds these names as whole words, None for no names."""
    if not (known := sorted(filter(None, names), key=len, reverse=True)):
        return None
    return re.compile("(" + "|".join(_whole(name) for name in known) + ")")


def _whole(name: str) -> str:
    before = r"(?<!\w)" if re.match(r"\w", name) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", name) else ""
    return before + re.escape(name) + after


def _unescaped(escaped: re.Match[str]) -> str:
    code = escaped[1] or escaped[2] or escaped[3]
    return chr(int(code, 16)) if code else _CONTROLS.get(escaped[4], escaped[4])
