"""Check who may read and change the settings: they hold secrets and name folders to write to."""

import stat
from collections.abc import Iterator
from pathlib import Path

from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.doctor.permissions import user
from her2d.doctor.units import CARE, DAEMON, Units
from her2d.settings import Settings
from her2d.system.ownership import forbidden_folder, foreign_owner

_CHECK = "settings"
_SECRETS_FILE = Path("/etc/her2d/secrets.env")
_SECRET_VARIABLES = ("HER2D_WEBHOOK__", "HER2D_OPS__PSEUDONYM_KEY")


def config_findings(config: Path | None, settings: Settings, units: Units) -> Iterator[Finding]:
    """Check the file of the settings and that of the secrets.

    Args:
        config: the file that the settings are from; None for the defaults.
        settings: what is in force.
        units: name the files with secrets that systemd reads.
    """
    found = [*_of_units(units)]
    if config is not None:
        found += _of_file(config.absolute(), settings)
    where = f"from {config}" if config is not None else "the defaults, because there is no file"
    yield from found or [ok(_CHECK, f"The settings are {where}.")]


def _of_file(config: Path, settings: Settings) -> Iterator[Finding]:
    try:
        config.read_bytes()
    except OSError:
        place = forbidden_folder(config) or config
        change = "o+x" if place != config else "g+r"
        yield failure(
            _CHECK,
            f"User {user()} cannot read {config}.",
            f"Run sudo chgrp {user()} {place} and sudo chmod {change} {place}.",
        )
        return
    if (owner := foreign_owner(config)) is not None:
        yield warning(
            _CHECK,
            f"User {owner} can change {config}, and with it where her2d writes.",
            f"Run sudo chown root: {config}, and keep it in a folder of root, such as /etc/her2d.",
        )
    mode = config.stat().st_mode
    if mode & stat.S_IWOTH:
        yield warning(
            _CHECK,
            f"Every user of this machine can change {config}.",
            f"Run sudo chmod o-w {config}.",
        )
    if mode & stat.S_IROTH and (keys := _secrets_in(settings, config)):
        yield warning(
            _CHECK,
            f"Every user of this machine can read {config}, which contains {' and '.join(keys)}.",
            f"Move that to {_SECRETS_FILE} (mode 600), or run sudo chmod o-r {config}.",
        )


def _secrets_in(settings: Settings, config: Path) -> list[str]:
    """Return the keys with a secret that the file itself contains."""
    text = config.read_text(errors="replace")
    webhook = settings.webhook
    secrets = {
        "[webhook] secret": webhook.secret and webhook.secret.get_secret_value(),
        "[ops] pseudonym_key": (
            settings.ops.pseudonym_key and settings.ops.pseudonym_key.get_secret_value()
        ),
    }
    if webhook.url is not None and webhook.model_dump(mode="json")["url"] != str(webhook.url):
        # What is masked is secret.
        secrets["a [webhook] url with a password or token"] = str(webhook.url).rstrip("/")
    return [key for key, secret in secrets.items() if secret and secret in text]


def _of_units(units: Units) -> Iterator[Finding]:
    for unit, properties in ((DAEMON, units.daemon), (CARE, units.care)):
        variables = properties.get("Environment", "").split()
        if secret := next((v for v in variables if v.startswith(_SECRET_VARIABLES)), None):
            yield warning(
                _CHECK,
                f"{unit} has {secret.partition('=')[0]} as Environment=, which every user of this"
                " machine can read with systemctl show.",
                f"Move the line to {_SECRETS_FILE} (mode 600), which {unit} reads.",
            )
    for file in dict.fromkeys(_secret_files(units)):
        try:
            mode = file.stat().st_mode
        except OSError:  # there is none, or its folder is closed
            continue
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            yield warning(
                _CHECK,
                f"Every user of this machine can read the secrets in {file}.",
                f"Run sudo chown root: {file} and sudo chmod 600 {file}, then choose new secrets.",
            )


def _secret_files(units: Units) -> Iterator[Path]:
    """Return the files that `EnvironmentFiles` lists, such as "/etc/a.env (ignore_errors=yes)"."""
    for properties in (units.daemon, units.care):
        for line in properties.get("EnvironmentFiles", "").splitlines():
            if line.startswith("/"):
                yield Path(line.partition(" (")[0])
    if not units.daemon:
        yield _SECRETS_FILE
