"""ARCHITECTURE.md names files and rooms that are there, and every room."""

import re

from documentation import ROOT

TEXT = (ROOT / "ARCHITECTURE.md").read_text()
PATHS = re.findall(r"`((?:her2d|tools|tests|systemd|docs)/[\w/.-]*)`", TEXT)


def test_every_path_exists():
    assert len(PATHS) > 40
    assert [path for path in PATHS if not (ROOT / path).exists()] == []


def test_every_room_has_its_line():
    package = ROOT / "her2d"
    rooms = {f"her2d/{folder.parent.name}" for folder in package.glob("*/__init__.py")}
    rooms |= {f"her2d/{file.name}" for file in package.glob("*.py")}
    rooms -= {"her2d/__init__.py", "her2d/__main__.py"}
    listed = set(re.findall(r"^\| `(her2d/[\w.]+)` \|", TEXT, re.MULTILINE))
    assert rooms == listed
