"""`systemctl show` for a folder of unit files, where systemd is not running.

It reads UNIT and UNIT.d/*.conf as systemd.unit(5) says, and prints the properties in the form of
systemctl(1). UNIT.state holds what only a running systemd knows, such as `ActiveState=failed`.

A shell script is the program that doctor starts; `write_answers` writes what it prints.
"""

import re
from pathlib import Path

_LISTS = {
    *("ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "IPAddressAllow", "IPAddressDeny"),
    *("Environment", "EnvironmentFile"),
}
_NETWORKS = {"localhost": "127.0.0.0/8 ::1/128", "any": "::/0 0.0.0.0/0"}
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SPANS = {"TimeoutStopSec": "TimeoutStopUSec", "WatchdogSec": "WatchdogUSec"}


def settings_of(folder: Path, unit: str) -> dict[str, list[str]]:
    """Return the directives of a unit and its drop-ins; an empty value resets a list."""
    found: dict[str, list[str]] = {}
    for file in [folder / unit, *sorted((folder / f"{unit}.d").glob("*.conf"))]:
        for line in file.read_text().splitlines():
            key, equals, value = line.partition("=")
            if not equals or line.startswith(("#", ";")):
                continue
            if key in _LISTS and value:
                found.setdefault(key, []).append(value)
            else:
                found[key] = [value] if value else []
    return found


def span(seconds: str) -> str:
    """Return a time as systemctl prints it: 2min, or infinity."""
    if not seconds.isdecimal():
        return seconds
    minutes, left = divmod(int(seconds), 60)
    return " ".join(f"{n}{unit}" for n, unit in ((minutes, "min"), (left, "s")) if n) or "0"


def properties(folder: Path, unit: str) -> dict[str, str]:
    if not (folder / unit).exists():
        return {"LoadState": "not-found", "ActiveState": "inactive"}
    if (folder / unit).resolve() == Path("/dev/null"):
        return {"LoadState": "masked", "ActiveState": "inactive"}
    wanted = any(folder.glob(f"*.wants/{unit}"))
    installs = "[Install]" in (folder / unit).read_text()
    found = {
        "LoadState": "loaded",
        "ActiveState": "active" if wanted else "inactive",
        "UnitFileState": "enabled" if wanted else "disabled" if installs else "static",
    }
    for key, values in settings_of(folder, unit).items():
        text = " ".join(values)
        if key.startswith("IPAddress"):
            found[key] = " ".join(_NETWORKS.get(word, word) for word in text.split())
        elif key.startswith("Memory") and (size := re.fullmatch(r"(\d+)([KMG])", text)):
            found[key] = str(int(size[1]) * _UNITS[size[2]])
        elif key in _SPANS:
            found[_SPANS[key]] = span(text)
        elif key == "EnvironmentFile":
            files = [
                f"{v.lstrip('-')} (ignore_errors={'yes' if v[0] == '-' else 'no'})" for v in values
            ]
            found["EnvironmentFiles"] = "\nEnvironmentFiles=".join(files)
        else:
            found[key] = text
    state = folder / f"{unit}.state"
    lines = state.read_text().splitlines() if state.exists() else []
    return {**found, **dict(line.split("=", 1) for line in lines)}


def write_answers(folder: Path, units: tuple[str, ...]) -> None:
    """Write UNIT.show for each unit, which is what `systemctl show UNIT` prints."""
    for unit in units:
        lines = (f"{key}={value}\n" for key, value in properties(folder, unit).items())
        (folder / f"{unit}.show").write_text("".join(lines))
