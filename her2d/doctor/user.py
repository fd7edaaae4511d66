"""Are these checks made as the user who will do the work?"""

import os
import pwd
from collections.abc import Mapping

from her2d.doctor.finding import Finding, failure, ok, warning


def user_finding(unit: str, properties: Mapping[str, str]) -> Finding:
    """What root or an engineer may read and write says nothing of what the daemon may."""
    check = "user"
    name = properties.get("User") or "root"
    try:
        number = pwd.getpwnam(name).pw_uid
    except KeyError:
        return failure(
            check,
            f"{unit} runs as {name}, and there is no such user.",
            "systemd-sysusers her2d.conf makes it.",
        )
    if number != os.geteuid():
        return warning(
            check,
            f"{unit} runs as {name}, these checks as user {os.geteuid()}:"
            " what they say of permissions means nothing.",
            f"sudo -u {name} her2d doctor",
        )
    return ok(check, f"These checks run as {name}, as {unit} does.")
