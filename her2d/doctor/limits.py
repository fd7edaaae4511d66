"""Check whether the unit's limits and the settings' own limits leave her2d room to work."""

import re
from collections.abc import Iterator

from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.doctor.units import DAEMON, Properties, Units, edit, is_loaded
from her2d.processing.threads import pools_of, threads_needed
from her2d.settings import Settings
from her2d.system.cpus import usable_cpus
from her2d.system.memory import most_memory_used

_UNIT = "systemd limits"
_SETTINGS = "limits"
_STOP_RESERVE_S = 10.0  # to return unfinished slides to the queue after drain_s
_MIB = 1 << 20
_TILE_MIB = 0.75
_STAGES = 3  # decoded, to be segmented, to be classified: each has a queue
# A decoding thread holds one tile at the scan's own magnification: at 40x, 5120 x 5120 pixels.
_DECODING_MIB = 75
_NIGHT_DAYS = 1.0
_LEAST_STALL_S = 30.0
_LEAST_WATCHDOG_S = 30.0  # between two signs of life lies a search of the inboxes

# A time span as systemctl prints it, such as "1min 30s": systemd.time(7).
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(month|min|ms|us|y|w|d|h|s)")
_SECONDS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
    "month": 2_629_800.0,
    "y": 31_557_600.0,
}


def unit_limit_findings(settings: Settings, units: Units) -> Iterator[Finding]:
    """Check the unit's limits of threads, memory and the time of a stop.

    The memory of this process counts as the engine's, so the engine must have been opened before.
    """
    if not is_loaded(units.daemon):
        return
    found = [
        *_too_few_tasks(settings, units.daemon),
        *_too_little_memory(settings, units.daemon),
        *_cut_short(settings.pipeline.drain_s, units.daemon),
        *_impatient_watchdog(units.daemon),
    ]
    yield from found or [ok(_UNIT, f"{DAEMON} may use what it needs.")]


def setting_findings(settings: Settings) -> Iterator[Finding]:
    """Check whether limits in the settings contradict each other."""
    yield from [*_contradictions(settings)] or [ok(_SETTINGS, "No limits contradict each other.")]


def _contradictions(settings: Settings) -> Iterator[Finding]:
    intake, pipeline, results = settings.intake, settings.pipeline, settings.results
    if intake.settle_s >= intake.incomplete_after_s:
        yield failure(
            _SETTINGS,
            f"[intake] settle_s ({intake.settle_s:g} s) is not shorter than incomplete_after_s"
            f" ({intake.incomplete_after_s:g} s), so a scan that is still being written is"
            " quarantined at its first examination.",
            "Set incomplete_after_s to several times settle_s, and longer than any pause of the"
            " scanner.",
        )
    if pipeline.batch_wait_s >= intake.stalled_after_s:
        yield failure(
            _SETTINGS,
            f"[pipeline] batch_wait_s ({pipeline.batch_wait_s:g} s) is not shorter than [intake]"
            f" stalled_after_s ({intake.stalled_after_s:g} s), so a slide that waits for a batch"
            " counts as stalled, and the watchdog restarts the daemon.",
            "Set batch_wait_s to its default, 0.2, or raise stalled_after_s.",
        )
    if intake.stalled_after_s < _LEAST_STALL_S:
        yield failure(
            _SETTINGS,
            f"[intake] stalled_after_s ({intake.stalled_after_s:g} s) is shorter than a large batch"
            f" or a slow share may take ({_LEAST_STALL_S:g} s), so a sound slide counts as stalled,"
            " and the watchdog restarts the daemon.",
            "Set stalled_after_s to its default, 900, or to a few minutes at least.",
        )
    for key, batch in (
        ("segmenter_batch", pipeline.segmenter_batch),
        ("classifier_batch", pipeline.classifier_batch),
    ):
        if batch > pipeline.queue_tiles:
            yield warning(
                _SETTINGS,
                f"[pipeline] {key} ({batch}) is larger than queue_tiles ({pipeline.queue_tiles}),"
                f" so a batch has {pipeline.queue_tiles} tiles at most.",
                f"Set queue_tiles to {2 * batch}, or {key} to {pipeline.queue_tiles}.",
            )
    if results.keep_tiles_days is not None and results.keep_tiles_days < _NIGHT_DAYS:
        yield warning(
            _SETTINGS,
            f"[results] keep_tiles_days ({results.keep_tiles_days:g}) is shorter than the time"
            " between two backups, so tile rows are deleted before a backup holds them.",
            "Set keep_tiles_days to several days at least, or make backups more often.",
        )
    if settings.webhook.url is not None and (
        settings.webhook.timeout_s >= settings.webhook.give_up_after_h * _SECONDS["h"]
    ):
        yield warning(
            _SETTINGS,
            f"[webhook] timeout_s ({settings.webhook.timeout_s:g} s) is not shorter than"
            f" give_up_after_h ({settings.webhook.give_up_after_h:g} h), so an event is given up"
            " while its answer is waited for.",
            "Set both to their defaults: timeout_s = 10 and give_up_after_h = 72.",
        )


def _too_few_tasks(settings: Settings, properties: Properties) -> Iterator[Finding]:
    allowed, cpus = properties.get("TasksMax", ""), usable_cpus()
    if not allowed.isdecimal():  # "infinity", or a systemd that does not limit them
        return
    needed, least = threads_needed(settings, cpus), threads_needed(settings, 1)
    if int(allowed) >= needed:
        return
    remedy = edit(DAEMON, f"TasksMax={2 * needed}")
    if int(allowed) < least:
        yield failure(
            _UNIT,
            f"{DAEMON} may have {allowed} threads (TasksMax), but needs at least {least}.",
            remedy,
        )
    else:
        yield warning(
            _UNIT,
            f"{DAEMON} may have {allowed} threads (TasksMax), but needs {needed} to use all"
            f" {cpus} CPUs.",
            remedy,
        )


def _too_little_memory(settings: Settings, properties: Properties) -> Iterator[Finding]:
    """Compare the unit's limits with what the engine took here, and what slides take beside it."""
    engine = most_memory_used() // _MIB
    needed = engine + _slides_mib(settings)
    for limit, consequence in (
        ("MemoryMax", "The kernel kills it, and the slide in progress starts again."),
        ("MemoryHigh", "Above that the kernel makes it so slow that slides stall."),
    ):
        allowed = properties.get(limit, "")
        if not allowed.isdecimal() or int(allowed) // _MIB >= needed:  # "infinity"
            continue
        message = f"{DAEMON} may use {int(allowed) // _MIB} MiB of memory ({limit}), but"
        remedy = edit(DAEMON, f"{limit}={_rounded_up(needed)}M") + (
            ", or lower [pipeline] slides_in_flight, decode_workers or queue_tiles."
        )
        if int(allowed) // _MIB < engine:
            yield failure(
                _UNIT, f"{message} the bundle alone needs {engine} MiB. {consequence}", remedy
            )
        else:
            yield warning(
                _UNIT,
                f"{message} the bundle with {settings.pipeline.slides_in_flight} slides in flight"
                f" may need {needed} MiB. {consequence}",
                remedy,
            )


def _slides_mib(settings: Settings) -> int:
    """Return an upper estimate of what slides in flight take, in MiB."""
    pipeline = settings.pipeline
    decoding = pipeline.slides_in_flight * pools_of(settings).decode_workers * _DECODING_MIB
    return decoding + int(_STAGES * pipeline.queue_tiles * _TILE_MIB)


def _rounded_up(mib: int, step: int = 512) -> int:
    """Return half as much again as `mib`, as a multiple of `step`."""
    return -(-mib * 3 // 2 // step) * step


def _cut_short(drain_s: float, properties: Properties) -> Iterator[Finding]:
    stop_s = _seconds(properties.get("TimeoutStopUSec", ""))
    if stop_s is not None and drain_s + _STOP_RESERVE_S > stop_s:
        yield warning(
            _UNIT,
            f"systemd kills her2d {stop_s:.0f} s after a stop, but [pipeline] drain_s is"
            f" {drain_s:.0f} s. Slides may be interrupted, and start again at the next start.",
            edit(DAEMON, f"TimeoutStopSec={drain_s + 60:.0f}"),
        )


def _impatient_watchdog(properties: Properties) -> Iterator[Finding]:
    watchdog_s = _seconds(properties.get("WatchdogUSec", ""))
    if watchdog_s is not None and 0 < watchdog_s < _LEAST_WATCHDOG_S:
        yield warning(
            _UNIT,
            f"systemd restarts her2d {watchdog_s:g} s after its last sign of life (WatchdogSec),"
            " which a search of slow inboxes may outlast.",
            edit(DAEMON, "WatchdogSec=120"),
        )


def _seconds(span: str) -> float | None:
    """Return the length of a time span that systemctl printed; None without a number (infinity)."""
    found = _SPAN.findall(span)
    return sum(float(number) * _SECONDS[unit] for number, unit in found) if found else None
