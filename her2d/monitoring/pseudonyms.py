"""Names that carry patients' identifiers, kept out of the log by a keyed hash.

The same name and key give the same pseudonym, so one slide's lines still belong together; without
the key nobody can test a guess (BLAKE2b in keyed mode, RFC 7693).

Names are replaced in a line's fields, before anything renders, quotes or escapes them. Where a
name ends in a sentence is not always plain: then too much is hidden rather than too little.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

# Fields that are paths as a whole; every other one is a text that may speak of them.
_PATHS = frozenset({"file", "path", "folder", "heatmap", "inbox"})
# Fields in which no file is ever named; frames are places in the code.
_OURS = frozenset({"timestamp", "level", "exc_type", "frames", "_record", "_from_structlog"})
_DIGEST_BYTES = 6
_PICTURES = (".png", ".jpg")
# As repr() quotes and escapes, which is how Python's errors name files.
_QUOTED = re.compile(r"""(?<!\w)(['"])((?:\\.|(?!\1(?!\w))[^\\])*)\1(?!\w)""", re.DOTALL)
_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))", re.DOTALL)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t"}


class Pseudonyms:
    """A structlog processor: replaces files' and folders' names, whatever field they stand in.

    Args:
        key: at most 64 bytes; longer ones are hashed first.
        extensions: file extensions that tell no name, with their dots.
        below: folders whose own path is no secret; every name below them is.
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
        """From now on hide names below these folders as well."""
        tops = {str(folder).rstrip("/") + "/" for folder in folders}
        # The longest first: of a folder in a folder only what is below both is a secret.
        self._below = tuple(sorted({*self._below, *tops}, key=len, reverse=True))

    def __call__(self, logger: Any, method: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The line's fields with every name replaced."""
        known = _regex_of(set(self._named_in(fields)))
        # Our own events' names are constants in the code; what a library says is a sentence.
        kept = {*_OURS, "event"} if fields.get("_from_structlog") else _OURS
        return {
            key: value if key in kept else self._value(key, value, known)
            for key, value in fields.items()
        }

    def of(self, name: str) -> str:
        """The pseudonym of a file's or folder's name; the extension of a slide stays."""
        stem, kind = self._split(name)
        digest = hashlib.blake2b(
            stem.encode("utf-8", "backslashreplace"), key=self._key, digest_size=_DIGEST_BYTES
        )
        return f"slide-{digest.hexdigest()}{kind}"

    def _split(self, name: str) -> tuple[str, str]:
        found = self._kinds.search(name)
        return (name[: found.start()], found[0]) if found else (name, "")

    def _of_path(self, path: str) -> str:
        """The path with all its names replaced, save those of the folders everything lies below."""
        if self._is_no_secret(path):
            return path
        if top := self._top_of(path):
            return top + self._of_names(path[len(top) :])
        folder, slash, name = path.rpartition("/")
        return ("…" if folder else "") + slash + self.of(name)

    def _of_names(self, path: str) -> str:
        return "/".join(self.of(name) if name else "" for name in path.split("/"))

    def _is_no_secret(self, path: str) -> bool:
        return any(top.startswith(f"{path}/") for top in self._below)

    def _top_of(self, path: str) -> str:
        return next((top for top in self._below if path.startswith(top)), "")

    def _named_in(self, fields: Mapping[str, Any]) -> Iterator[str]:
        """The names that the line itself says are names."""
        for key, value in fields.items():
            if isinstance(value, (Mapping, list)):
                for inner in value if isinstance(value, list) else [value]:
                    if isinstance(inner, Mapping):
                        yield from self._named_in(inner)
            elif key in _PATHS and value and not self._is_no_secret(str(value)):
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
                    inner: item if inner in _OURS else self._value(inner, item, known)
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
        """A sentence. Paths in quotes first: they say where they end."""
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
        """A path ends with the last file that the line is known to be about, else with the text."""
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
        """What nobody named but looks like a file: where its name begins, nobody can tell."""
        done: list[str] = []
        at = 0
        for end in self._ends_a_file.finditer(text):
            done.append(self.of(text[at : end.end()]))
            at = end.end()
        return "".join([*done, text[at:]])


def _regex_of(names: Collection[str]) -> "re.Pattern[str] | None":
    """Finds any of these names where it stands as a whole word."""
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
