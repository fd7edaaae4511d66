"""Let a virtual environment run from another folder than the one it was made in.

Usage: python relocate.py DESTDIR /opt/her2d

pip writes the path of the interpreter into every script. An environment that was made below DESTDIR
but will be used without it gets scripts, a pyvenv.cfg and bytecode that name its final path.
"""

import base64
import compileall
import csv
import hashlib
import re
import shutil
import sys
from pathlib import Path

# What pip writes where the path is too long for a shebang, or holds a space.
_TRAMPOLINE = re.compile(rb"\A#!/bin/sh\n'''exec' \"?([^\"\n]+?)\"? \"\$0\" \"\$@\"\n' '''\n")


def relocate(root: Path, final: Path) -> None:
    """Make the environment at `root` plus `final` one that lies at `final`."""
    staged = root / final.relative_to("/")
    texts = [
        path for path in (staged / "bin").iterdir() if path.is_file() and not path.is_symlink()
    ]
    for path in [*texts, staged / "pyvenv.cfg"]:
        text = path.read_bytes().replace(bytes(staged), bytes(final))
        path.write_bytes(_TRAMPOLINE.sub(rb"#!\1\n", text))
    for packages in (staged / "lib").glob("python*/site-packages"):
        for url in packages.glob("*.dist-info/direct_url.json"):
            url.unlink()  # the folder of the sources, on the machine that built this
        for record in packages.glob("*.dist-info/RECORD"):
            _correct(record)
    for folder in (staged / "lib").rglob("__pycache__"):
        shutil.rmtree(folder)
    compileall.compile_dir(staged / "lib", quiet=2, stripdir=str(root), prependdir="/")


def _correct(record: Path) -> None:
    """Write the hashes of scripts, as they now are, to a package's list of files."""
    packages = record.parents[1]
    with record.open(newline="") as file:
        rows = [row for row in csv.reader(file) if not row[0].endswith("/direct_url.json")]
    for row in rows:
        path = packages / row[0]
        if row[0].startswith("../") and row[1]:
            digest = hashlib.sha256(text := path.read_bytes()).digest()
            encoded = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            row[1:] = [f"sha256={encoded}", str(len(text))]
    with record.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    relocate(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
