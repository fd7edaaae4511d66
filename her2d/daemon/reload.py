"""SIGHUP: which settings of a running daemon can change, and which need a restart."""

from dataclasses import dataclass

from her2d.settings import IntakeSettings, Settings

_LIVE = frozenset(
    {f"intake.{key}" for key in IntakeSettings.model_fields if key != "assume_magnification"}
    | {"pipeline.drain_s", "ops.log_level"}
)


@dataclass(frozen=True, slots=True)
class Reload:
    """The outcome of a reload.

    Attributes:
        settings: settings with which the daemon continues.
        changed: keys whose value changed.
        waiting: keys of config.toml that apply only at the next start.
    """

    settings: Settings
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def merged(running: Settings, wanted: Settings) -> Reload:
    """Return the running settings, updated by those wanted ones that can change at once."""
    changed, waiting, sections = [], [], {}
    for section in Settings.model_fields:
        old, new = getattr(running, section), getattr(wanted, section)
        update = {}
        for key in type(old).model_fields:
            if getattr(old, key) == getattr(new, key):
                continue
            name = f"{section}.{key}"
            if name in _LIVE:
                changed.append(name)
                update[key] = getattr(new, key)
            else:
                waiting.append(name)
        sections[section] = old.model_copy(update=update)
    return Reload(running.model_copy(update=sections), tuple(changed), tuple(waiting))
