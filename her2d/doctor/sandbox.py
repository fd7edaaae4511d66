"""Check whether the systemd units let her2d access what the settings name; see systemd.exec(5)."""

from collections.abc import Iterator
from pathlib import Path

from her2d.doctor.archive import archive_folders
from her2d.doctor.finding import Finding, failure, ok
from her2d.doctor.reach import reach_finding
from her2d.doctor.units import CARE, DAEMON, Properties, Units, edit, is_loaded, paths
from her2d.settings import ClusterSettings, Settings, cluster_head

_CHECK = "systemd sandbox"
_STATE = Path("/var/lib")
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))


def sandbox_findings(settings: Settings, units: Units) -> Iterator[Finding]:
    """Check what the daemon's unit and that of the nightly backup can access."""
    if not is_loaded(units.daemon):
        yield ok(_CHECK, f"{DAEMON} is not installed.")
        return
    yield from _of_daemon(settings, units.daemon)
    if is_loaded(units.care):
        yield from _of_care(settings, units.care)


def _of_daemon(settings: Settings, properties: Properties) -> Iterator[Finding]:
    intake, results = settings.intake, settings.results
    written = [results.database.parent, results.heatmaps, *archive_folders(intake).values()]
    if archive_folders(intake):
        written += intake.inboxes
    seen = [*intake.inboxes, *_bundle_paths(settings), *written]
    found = [
        *_unwritable(DAEMON, written, properties),
        *_hidden(DAEMON, seen, properties),
        *_without_code(settings, properties),
    ]
    yield from found or [ok(_CHECK, f"{DAEMON} can access everything that the settings name.")]


def cluster_sandbox_findings(settings: ClusterSettings, daemon: Properties) -> Iterator[Finding]:
    """Check whether the daemon's unit can reach the head of the cluster, if there is one."""
    if not settings.address or not is_loaded(daemon):
        return
    is_client = settings.address.startswith("ray://")
    if not is_client and daemon.get("PrivateTmp", "no") != "no":
        yield failure(
            _CHECK,
            f"{DAEMON} has a private temporary folder and cannot see /tmp/ray, by which"
            f' "{settings.address}" finds the cluster.',
            'Name the head in [cluster] address: "ray://head.example:10001".',
        )
        return
    head = cluster_head(settings.address)
    if head is not None:
        yield reach_finding(head[0], "the cluster's head", "cluster", daemon)


def _of_care(settings: Settings, properties: Properties) -> Iterator[Finding]:
    """Check the nightly unit, which has separate drop-ins."""
    written = [settings.results.database.parent, settings.results.backups]
    found = [*_unwritable(CARE, written, properties), *_hidden(CARE, written, properties)]
    yield from found or [ok(_CHECK, f"{CARE} can access the database and its backups.")]


def _bundle_paths(settings: Settings) -> list[Path]:
    """Return the bundle's folder, and its calibration if the settings name one elsewhere."""
    bundle = settings.bundle
    return [bundle.path, *filter(None, [bundle.calibration])]


def _unwritable(unit: str, folders: list[Path], properties: Properties) -> Iterator[Finding]:
    writable = [_STATE / name for name in properties.get("StateDirectory", "").split()]
    writable += paths(properties, "ReadWritePaths")
    if properties.get("PrivateTmp", "no") != "no":
        writable += _TEMPORARY  # `_hidden` reports that the unit sees other folders there
    closed = [*paths(properties, "ReadOnlyPaths")]
    if properties.get("ProtectSystem") == "strict":
        closed.append(Path("/"))
    for folder in dict.fromkeys(folders):
        # The longest path counts, as in the kernel's mounts.
        if _depth(folder, closed) > _depth(folder, writable):
            yield failure(
                _CHECK,
                f"{unit} cannot write to {folder}.",
                edit(unit, f"ReadWritePaths={folder}"),
            )


def _without_code(settings: Settings, properties: Properties) -> Iterator[Finding]:
    """Report OpenVINO where the unit keeps it from running the code that it compiles."""
    wanted = settings.inference.backend
    is_compiled = any(settings.bundle.path.glob("openvino-*.plan.json"))
    is_used = wanted == "openvino" or (wanted == "auto" and is_compiled)
    if is_used and properties.get("MemoryDenyWriteExecute") == "yes":
        yield failure(
            _CHECK,
            f"{DAEMON} may not run code that it compiles, as OpenVINO does, so the daemon cannot"
            " use OpenVINO.",
            "Install the drop-in openvino.conf, which allows it (sudo make install-openvino). Then"
            " restart her2d.",
        )


def _depth(folder: Path, above: list[Path]) -> int:
    """Return how many parts the longest of the paths above `folder` has; -1 if none is above."""
    return max((len(path.parts) for path in above if folder.is_relative_to(path)), default=-1)


def _hidden(unit: str, seen: list[Path], properties: Properties) -> Iterator[Finding]:
    closed = properties.get("ProtectHome") in ("yes", "tmpfs")
    private = properties.get("PrivateTmp", "no") != "no"
    inaccessible = paths(properties, "InaccessiblePaths")
    for path in dict.fromkeys(seen):
        if closed and any(path.is_relative_to(home) for home in _HOMES):
            yield failure(_CHECK, f"{unit} cannot see {path}.", edit(unit, "ProtectHome=read-only"))
        if any(path.is_relative_to(folder) for folder in inaccessible):
            yield failure(
                _CHECK,
                f"{unit} cannot see {path} (InaccessiblePaths).",
                f"Remove that path from the drop-in: sudo systemctl edit {unit}",
            )
        if private and any(path.is_relative_to(folder) for folder in _TEMPORARY):
            yield failure(
                _CHECK,
                f"{unit} has a private temporary folder and cannot see {path}.",
                f"Use another folder, or run sudo systemctl edit {unit} and add: [Service]"
                " PrivateTmp=no",
            )
