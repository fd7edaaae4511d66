"""Who runs a command, for the record of what persons did."""

from her2d.system.ownership import acting_user
from her2d.system.text import readable_text


def actor(command: str) -> str:
    """Return the user and the command, such as "alice: her2d queue retry".

    Args:
        command: its words after `her2d`.
    """
    return readable_text(f"{acting_user()}: her2d {command}")
