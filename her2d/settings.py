"""Read config.toml and the HER2D_* environment variables into one frozen tree of settings.

The environment wins over the file: `[results] database` is `HER2D_RESULTS__DATABASE`. Relative
paths start at the folder of config.toml, so that `her2d` can be started in any folder. The
demonstration bundle is part of the package, and serves where that folder holds no copy of it.
"""

import binascii
import json
import os
import re
from base64 import b64decode
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_origin
from urllib.parse import urlsplit, urlunsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError as SettingsSourceError

from her2d import __version__
from her2d.errors import Her2dError
from her2d.system.ownership import access_hint, foreign_owner

CONFIG_FILE = Path("config.toml")
SYSTEM_CONFIG_FILE = Path("/etc/her2d/config.toml")

# What is installed with the package: the documented config.toml, the demonstration bundle and the
# systemd units. In a clone these are links to where people look for them.
PACKAGE_DATA = Path(__file__).parent / "data"
_DEMO_BUNDLE = Path("engines/her2net-demo")

# Never shown, also when the value is not allowed. A URL may contain a password or a token.
_SECRETS = frozenset({"secret", "pseudonym_key", "url"})
_MASK = "***"
_TOKEN = re.compile(r"(?<=/)(?=[^/]*\d)[^/]{16,}")  # a long part of a path that has a digit

# A name or IPv4 address, or an IPv6 address in brackets, and a port.
_CLUSTER = re.compile(r"(auto|(ray://)?([\w.-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5})?")
_LAST_PORT = 65535

# What names a system of identifiers in FHIR. A misspelt OID or UUID would be another system.
_URI = re.compile(
    r"https?://[a-z0-9.-]+(:[0-9]+)?(/[^\s|#]*)?"
    r"|urn:oid:[0-2](\.(0|[1-9][0-9]*))+"
    r"|urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|urn:(?!oid:|uuid:)[a-z0-9][a-z0-9-]{0,30}[a-z0-9]:[^\s|#]+",
    re.IGNORECASE,
)

# Scans of several files: the daemon can neither tell when all are there nor move them together.
_OF_SEVERAL_FILES = frozenset({".dcm", ".mrxs", ".vms", ".vmu", ".vsi"})

# Linux takes 4095 and 255 bytes, and files are created in and beside what the settings name.
_LONGEST_PATH, _LONGEST_NAME = 3800, 240

PositiveInt = Annotated[int, Field(ge=1)]
# The limits are longer than any sensible value, and short enough to add to the current time.
Seconds = Annotated[float, Field(gt=0, le=1e9)]
Days = Annotated[float, Field(gt=0, le=36_500)]


class SettingsError(Her2dError):
    """The settings cannot be used; `str(error)` names the key and says what is allowed."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def anchored(self, base: Path) -> Self:
        """Return the section with absolute paths, without `..`, because folders are compared.

        Args:
            base: the folder where relative paths start.

        Raises:
            ValidationError: the folders exclude each other.
        """
        anchored: dict[str, Any] = dict(self)
        for name, value in self:
            if isinstance(value, Path):
                anchored[name] = _anchored(value, base)
            elif isinstance(value, tuple) and all(isinstance(item, Path) for item in value):
                anchored[name] = tuple(_anchored(item, base) for item in value)
        return self.model_validate(anchored)


class IntakeSettings(_Section):
    """Which files are scans, when they are finished, and where they go afterwards."""

    inboxes: tuple[Path, ...] = (Path("inbox"),)
    extensions: tuple[str, ...] = (".tif", ".tiff", ".svs")
    ignore: tuple[str, ...] = (".*", "*.part", "*.tmp", "Thumbs.db", "desktop.ini")
    sidecar: str = ""
    priorities: dict[Path, Annotated[int, Field(ge=-4, le=4)]] = {}
    assume_magnification: dict[str, Annotated[float, Field(gt=0, le=100)]] = {}
    settle_s: Seconds = 10.0
    incomplete_after_s: Seconds = 3600.0
    backfill_after_s: Seconds = 86400.0
    watch: Literal["auto", "events", "poll"] = "auto"
    sweep_s: Seconds = 60.0
    poll_s: Seconds = 10.0
    max_attempts: PositiveInt = 3
    stalled_after_s: Seconds = 900.0
    min_free_mb: Annotated[float, Field(ge=0)] = 1000.0
    on_success: Literal["leave", "move"] = "leave"
    on_failure: Literal["leave", "move"] = "leave"
    archive: Path = Path("archive")
    quarantine: Path = Path("quarantine")

    @field_validator("assume_magnification", mode="before")
    @classmethod
    def _one_for_all_files(cls, assumed: object) -> object:
        if assumed is None:
            return {}
        return assumed if isinstance(assumed, dict) else {"*": assumed}

    @field_validator("inboxes")
    @classmethod
    def _at_least_one(cls, inboxes: tuple[Path, ...]) -> tuple[Path, ...]:
        if not inboxes:
            raise ValueError("must name at least one folder, such as ['/mnt/scans']")
        return inboxes

    @field_validator("extensions")
    @classmethod
    def _lower_case_with_a_dot(cls, extensions: tuple[str, ...]) -> tuple[str, ...]:
        if not extensions or any(not e.startswith(".") for e in extensions):
            raise ValueError("must name at least one extension, each with its dot, such as '.tif'")
        lower = tuple(extension.lower() for extension in extensions)
        if several := [extension for extension in lower if extension in _OF_SEVERAL_FILES]:
            raise ValueError(
                f"must not name {several[0]!r}: such a scan has several files, and only scans of"
                " one file are taken from an inbox; score it with `her2d scan`"
            )
        return lower

    @field_validator("sidecar")
    @classmethod
    def _nothing_or_with_a_dot(cls, sidecar: str) -> str:
        if sidecar and not sidecar.startswith("."):
            raise ValueError("must be empty or an extension with its dot, such as '.xml'")
        return sidecar

    @model_validator(mode="after")
    def _inboxes_lie_outside_the_folders_for_finished_files(self) -> Self:
        for folder in self.archive_folders:
            for inbox in self.inboxes:
                if inbox.is_relative_to(folder):
                    raise ValueError(f"the inbox {inbox} must not lie in {folder}")
        return self

    @property
    def archive_folders(self) -> tuple[Path, Path]:
        """The folders that finished files are moved to."""
        return self.archive, self.quarantine

    def anchored(self, base: Path) -> Self:
        """Return the section with absolute paths, also in keys.

        Raises:
            ValueError: `priorities` names a folder that is not an inbox.
        """
        section = super().anchored(base)
        priorities = {_anchored(inbox, base): n for inbox, n in self.priorities.items()}
        for folder in priorities:
            if folder not in section.inboxes:
                raise ValueError(f"priorities names {folder}, which is not one of the inboxes")
        assumed = {}
        for key, magnification in self.assume_magnification.items():
            path = _anchored(Path(key), base)
            is_folder = "/" in key or path in section.inboxes
            assumed[str(path) if is_folder else key] = magnification
        return section.model_copy(
            update={"assume_magnification": assumed, "priorities": priorities}
        )

    def magnification_for(self, path: Path, inbox: Path | None = None) -> float | None:
        """Return the magnification to assume for a file that states none.

        Args:
            path: the file, in an inbox, in the archive or elsewhere.
            inbox: the inbox that it was found in, if any.

        Returns:
            That of the first key that the file matches; None if it matches none.
        """
        if inbox is not None:
            for folder in self.archive_folders:
                if path.is_relative_to(folder):  # in the same subfolders as in the inbox
                    path = inbox / path.relative_to(folder)
        for key, magnification in self.assume_magnification.items():
            if "/" not in key:
                if fnmatchcase(path.name.lower(), key.lower()):
                    return magnification
            elif path.is_relative_to(key) or fnmatchcase(str(path), key):
                return magnification
        return None


class BundleSettings(_Section):
    """The model bundle to use, and its calibration on the laboratory's own slides."""

    path: Path = _DEMO_BUNDLE
    calibration: Path | None = None


Backend = Literal["auto", "tensorrt", "tensorrt_rtx", "torch", "openvino", "onnxruntime"]
Precision = Literal["auto", "fp32", "fp16", "bf16", "int8"]


class InferenceSettings(_Section):
    """The engine that runs the models."""

    backend: Backend = "auto"
    precision: Precision = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    run_all_classifiers: bool = True


class PipelineSettings(_Section):
    """How many slides and tiles are processed at once, and what a slide may lack."""

    decode_workers: Annotated[int, Field(ge=0)] = 0
    slides_in_flight: PositiveInt = 2
    queue_tiles: PositiveInt = 32
    segmenter_batch: Annotated[int, Field(ge=0)] = 0
    classifier_batch: Annotated[int, Field(ge=0)] = 0
    batch_wait_s: Seconds = 0.2
    drain_s: Annotated[float, Field(ge=0, le=1e9)] = 30.0
    max_unreadable_percent: Annotated[float, Field(ge=0, le=100)] = 25.0


def cluster_head(address: str) -> tuple[str, int] | None:
    """Return the host, without brackets, and the port in `[cluster] address`; None for "auto"."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    return (host.strip("[]"), int(port)) if host else None


class ClusterSettings(_Section):
    """Machines that score slides besides this one, in a cluster of Ray."""

    address: str = ""
    actor_cpus: PositiveInt = 4
    actor_gpus: Annotated[int, Field(ge=0, le=1)] = 0
    most_slides: PositiveInt = 32
    least_engines: Annotated[int, Field(ge=0)] = 1
    release_after_s: Seconds = 600.0
    autoscales: bool = False
    paths: dict[Path, Path] = {}
    spool: Path = Path("/var/tmp")
    spool_mb: Annotated[float, Field(ge=0, le=1e9)] = 20_000.0

    @field_validator("address")
    @classmethod
    def _is_one_of_rays(cls, address: str) -> str:
        if not _CLUSTER.fullmatch(address):
            raise ValueError(
                "must be empty, 'auto', or the head's address, such as 'ray://head.example:10001'"
            )
        head = cluster_head(address)
        if head is not None and head[1] > _LAST_PORT:
            raise ValueError(f"must have a port of at most {_LAST_PORT}, not {head[1]}")
        return address

    @field_validator("paths")
    @classmethod
    def _absolute(cls, paths: dict[Path, Path]) -> dict[Path, Path]:
        for path in (*paths, *paths.values()):
            if not path.is_absolute() or ".." in path.parts:
                raise ValueError(f"must name folders by absolute paths without '..', not '{path}'")
        return paths


class ResultsSettings(_Section):
    """Where results are stored."""

    database: Path = Path("her2d.sqlite")
    heatmaps: Path = Path("heatmaps")
    backups: Path = Path("backups")
    keep_tiles_days: Days | None = None


class OpsSettings(_Section):
    """Monitoring and logs."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=_LAST_PORT)] = 9464
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    pseudonym_key: Annotated[SecretStr, Field(min_length=16)] | None = None

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, host: str) -> str:
        try:
            host.encode("idna")
        except UnicodeError as error:
            raise ValueError("must be an IP address or a host name") from error
        if not host or not host.isprintable() or " " in host:
            raise ValueError("must be an IP address or a host name")
        return host


class WebhookSettings(_Section):
    """The webhook that receives results, failures and quarantines."""

    url: HttpUrl | None = None
    secret: SecretStr | None = None
    timeout_s: Seconds = 10.0
    give_up_after_h: Annotated[float, Field(gt=0, le=100_000)] = 72.0

    @field_serializer("url", when_used="json")
    def _without_what_is_secret(self, url: HttpUrl | None) -> str | None:
        return None if url is None else _masked(str(url))

    @field_validator("secret")
    @classmethod
    def _is_base64(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            try:
                key = b64decode(secret.get_secret_value().removeprefix("whsec_"), validate=True)
            except binascii.Error:
                key = b""
            if len(key) < 24:
                raise ValueError("must be 'whsec_' and the base64 of at least 24 random bytes")
        return secret


class FhirSettings(_Section):
    """What `her2d export --format fhir` writes of slides, patients and pictures."""

    accession_system: str = "urn:her2d:barcode"
    subject_system: str | None = None
    status: Literal["preliminary", "final"] = "preliminary"
    picture_kb: Annotated[float, Field(ge=0, le=10_000)] = 500.0

    @field_validator("accession_system", "subject_system")
    @classmethod
    def _absolute(cls, system: str | None) -> str | None:
        if system is not None and not _URI.fullmatch(system):
            raise ValueError(
                "must be an absolute URI, such as 'https://hospital.example/accession' or"
                " 'urn:oid:1.2.36.146'"
            )
        return system


class Settings(BaseSettings):
    """The whole tree; every section is frozen and refuses unknown keys."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="HER2D_", env_nested_delimiter="__"
    )

    intake: IntakeSettings = IntakeSettings()
    bundle: BundleSettings = BundleSettings()
    inference: InferenceSettings = InferenceSettings()
    pipeline: PipelineSettings = PipelineSettings()
    cluster: ClusterSettings = ClusterSettings()
    results: ResultsSettings = ResultsSettings()
    ops: OpsSettings = OpsSettings()
    webhook: WebhookSettings = WebhookSettings()
    fhir: FhirSettings = FhirSettings()

    @property
    def workers(self) -> int:
        """Number of slides that the daemon works on at once, on this machine or on a cluster."""
        cluster = self.cluster
        return cluster.most_slides if cluster.address else self.pipeline.slides_in_flight


def find_config(given: Path | None = None) -> Path | None:
    """Find the config.toml to read.

    Args:
        given: the file that the user named, if any. Otherwise it is the file that `HER2D_CONFIG`
            names, or config.toml in the current folder, or the system's.

    Returns:
        The file, or None if there is none, which means the defaults.

    Raises:
        SettingsError: a folder cannot be searched, or config.toml in the current folder is another
            user's, who could have it write anywhere.
    """
    if given is not None:
        return given
    if named := os.environ.get("HER2D_CONFIG"):
        return Path(named)
    found = next((path for path in (CONFIG_FILE, SYSTEM_CONFIG_FILE) if _is_there(path)), None)
    if found == CONFIG_FILE and (owner := foreign_owner(found)) is not None:
        raise SettingsError(
            f"{found.absolute()} is not used, because user {owner} can change it. To use it, name"
            " it with --config; otherwise run the command in another folder."
        )
    return found


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError as error:
        # `sudo -u her2d` may start in a folder that her2d may not enter, such as /root.
        if path == CONFIG_FILE:
            return False
        raise SettingsError(f"Cannot look for {path}: {error}.") from error


def load_settings(config: Path | None) -> Settings:
    """Read the settings from a file and the environment.

    Args:
        config: the file; None for the environment and defaults only.

    Raises:
        SettingsError: the file cannot be read or is not TOML, or a key is unknown or has a value
            that is not allowed. The sentence names the key.
    """
    _refuse_unknown_variables()
    _refuse_lists_that_are_none()
    try:
        if config is not None and not config.is_file():
            raise SettingsError(f"There is no settings file {config}.")
        if config is not None and config.stat().st_size == 0:
            # What a full disk leaves of a file, or an editor for a moment. It would mean other
            # inboxes and another database.
            raise SettingsError(
                f"The settings file {config} is empty. Restore it; a file with one line of comment"
                " stands for the defaults."
            )
    except OSError as error:
        raise SettingsError(f"The settings cannot be read from {config}: {error}.") from error

    # pydantic-settings takes "~" for a home, but no path from the command line means one.
    file = config.absolute() if config is not None else ()

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)

    try:
        settings = FromFile()
    except ValidationError as error:
        raise SettingsError(_sentence(error, config)) from error
    except (SettingsSourceError, ValueError, OSError) as error:
        # A ValueError is not TOML, not UTF-8, or a number with thousands of digits.
        where = config if config is not None else "the environment"
        hint = f" {access_hint(config)}" if config and isinstance(error, PermissionError) else ""
        raise SettingsError(f"The settings cannot be read from {where}: {error}.{hint}") from error
    except RecursionError as error:
        where = config if config is not None else "the environment"
        raise SettingsError(
            f"The settings cannot be read from {where}: they are nested too deeply."
        ) from error
    base = config.resolve().parent if config is not None else Path.cwd()
    sections = {name: section for name, section in settings if isinstance(section, _Section)}
    anchored = {}
    for name, section in sections.items():
        try:
            anchored[name] = section.anchored(base)
        except (ValueError, RuntimeError) as error:  # RuntimeError: "~user" without such a user
            where = f"{config}: " if config is not None else ""
            reason = _message(error) if isinstance(error, ValidationError) else str(error)
            raise SettingsError(f"{where}{name}: {reason.rstrip('.')}.") from error
    if settings.bundle.path == _DEMO_BUNDLE:
        anchored["bundle"] = anchored["bundle"].model_copy(update={"path": demo_bundle(base)})
    return settings.model_copy(update=anchored)


def demo_bundle(base: Path) -> Path:
    """Return the demonstration bundle in `base`, or the one in the package if there is none."""
    if _is_missing(base / _DEMO_BUNDLE):
        return PACKAGE_DATA / _DEMO_BUNDLE.name
    return _anchored(_DEMO_BUNDLE, base)


def _is_missing(path: Path) -> bool:
    """Whether there is certainly nothing at `path`; what cannot be looked at may be there."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _anchored(path: Path, base: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("a path must not contain a null character")
    found = Path(os.path.normpath(base / path.expanduser()))
    longest = max(len(os.fsencode(part)) for part in found.parts)
    if longest > _LONGEST_NAME or len(os.fsencode(found)) > _LONGEST_PATH:
        raise ValueError(
            f"a path may have {_LONGEST_PATH} characters, and each name in it {_LONGEST_NAME}"
        )
    return found


def _refuse_unknown_variables() -> None:
    known = {f"HER2D_{section.upper()}" for section in Settings.model_fields}
    for variable in os.environ:
        if variable.startswith("HER2D_") and variable != "HER2D_CONFIG":
            section, separator, _ = variable.partition("__")
            if section not in known or not separator:
                raise SettingsError(
                    f"The environment variable {variable} is not a setting; settings are named"
                    f" HER2D_SECTION__KEY with SECTION one of"
                    f" {', '.join(name.upper() for name in Settings.model_fields)}."
                )


def _refuse_lists_that_are_none() -> None:
    for section, settings in Settings.model_fields.items():
        for key, field in settings.default.__class__.model_fields.items():
            text = os.environ.get(_variable(section, key))
            if text is not None and get_origin(field.annotation) is tuple and not _is_list(text):
                example = json.dumps([str(item) for item in field.default])
                raise SettingsError(
                    f"The environment variable {_variable(section, key)} must be a JSON list of"
                    f" texts, such as '{example}' (found {text!r})."
                )


def _is_list(text: str) -> bool:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, list) and all(isinstance(item, str) for item in found)


def _variable(*key: object) -> str:
    return "HER2D_" + "__".join(str(step).upper() for step in key)


def _sentence(error: ValidationError, config: Path | None) -> str:
    first = error.errors()[0]
    loc = first["loc"]
    key = ".".join(str(step) for step in loc)
    variable = _variable(*loc[:2])
    if variable in os.environ:
        where = f"{variable}: "
    else:
        where = f"{config}: " if config is not None else ""
    if first["type"] == "extra_forbidden":
        if len(unknown := _unknown_keys(error)) > 1:
            return f"{where}{', '.join(unknown)} are not settings of her2d {__version__}."
        return f"{where}{key} is not a setting{_instead_of(loc)}"
    message = _message(error)
    if len(loc) < 2 and first["type"] != "value_error":
        return f"{where}{key} must be a section, [{key}], with its keys below."
    if first["type"] == "tuple_type":
        example = json.dumps([str(first["input"])], ensure_ascii=False)
        return f"{where}{key} must be a list, such as {example} (found {first['input']!r})."
    # A section that is not a table may contain a secret anywhere.
    if len(loc) < 2 or not _SECRETS.isdisjoint(loc):
        return f"{where}{key}: {message}."
    return f"{where}{key}: {message} (found {first['input']!r})."


def _unknown_keys(error: ValidationError) -> list[str]:
    """Return what the file has and this version does not know, as after going back to it."""
    found = [problem["loc"] for problem in error.errors() if problem["type"] == "extra_forbidden"]
    return [".".join(map(str, loc)) for loc in found if _variable(*loc[:2]) not in os.environ]


def _message(error: ValidationError) -> str:
    return error.errors()[0]["msg"].removeprefix("Value error, ")


def _instead_of(loc: tuple[int | str, ...]) -> str:
    """Suggest a key with a similar name, or the same key in another section."""
    section, key = str(loc[0]), str(loc[-1])
    keys = {
        name: list(type(field.default).model_fields)
        for name, field in Settings.model_fields.items()
    }
    if len(loc) == 1:
        near = [f"[{name}]" for name in get_close_matches(section, keys, 1)]
    else:
        near = [f"{section}.{name}" for name in get_close_matches(key, keys[section], 1)]
    near += [f"{name}.{key}" for name in keys if key in keys[name]]
    return f"; did you mean {near[0]}?" if near else "."


def _masked(url: str) -> str:
    """Return the URL without its user, password, query, and likely tokens in its path."""
    parts = urlsplit(url)
    _, at, address = parts.netloc.rpartition("@")
    query, fragment = (_MASK if part else "" for part in (parts.query, parts.fragment))
    place = f"{_MASK}@{address}" if at else address
    path = _TOKEN.sub(_MASK, parts.path)
    return urlunsplit((parts.scheme, place, path, query, fragment))
