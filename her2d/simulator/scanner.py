"""Delivery of simulated slides into an inbox, as scanners write them.

Scanners and network copies write in place or under a temporary name, steadily or in bursts, and
some reserve the whole file first. The delivered file has the same bytes as the rendered one.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from her2d.simulator.motic import write_he_slide
from her2d.simulator.plan import SlidePlan

_CHUNK_BYTES = 64 * 1024
_LEAST_CHUNKS = 12  # a small file is seen in parts, too


class WriteStyle(StrEnum):
    """The way in which a file is written.

    A file written `in_place` grows under its final name, and with `bursts` it does so with pauses.
    A `reserved` file has its full size from the start, and its zeros are overwritten from front to
    back. A file with a `temp_name` is renamed when it is complete.
    """

    IN_PLACE = "in_place"
    BURSTS = "bursts"
    RESERVED = "reserved"
    TEMP_NAME = "temp_name"


@dataclass(frozen=True, slots=True)
class Delivered:
    """A slide that is complete in the inbox."""

    plan: SlidePlan
    path: Path
    style: WriteStyle


def deliver(
    source: Path,
    target: Path,
    *,
    style: WriteStyle,
    bytes_per_second: float,
    pause_s: float = 1.5,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Copy a file as a scanner would write it.

    Args:
        source: file to copy.
        target: path of the copy.
        style: how the copy is written.
        bytes_per_second: speed of the writing.
        pause_s: length of the pause between two bursts.
        sleep: function that waits for a number of seconds.

    Raises:
        OSError: the inbox cannot be written.
    """
    writing = target.with_name(f".{target.name}.part") if style is WriteStyle.TEMP_NAME else target
    size = source.stat().st_size
    pauses = {size // 3, 2 * size // 3} if style is WriteStyle.BURSTS else set[int]()
    written, chunk_bytes = 0, max(1, min(_CHUNK_BYTES, size // _LEAST_CHUNKS))
    with source.open("rb") as finished, writing.open("wb") as file:
        if style is WriteStyle.RESERVED:
            file.truncate(size)
        while chunk := finished.read(chunk_bytes):
            file.write(chunk)
            file.flush()
            sleep(len(chunk) / bytes_per_second)
            before, written = written, written + len(chunk)
            if any(before < at <= written for at in pauses):
                sleep(pause_s)
    if writing != target:
        writing.replace(target)


def run_scanner(
    inbox: Path,
    plans: Iterable[SlidePlan],
    *,
    seed: int,
    bytes_per_second: float = 4e6,
    write: Callable[[SlidePlan, Path], None] = write_he_slide,
    styles: tuple[WriteStyle, ...] = tuple(WriteStyle),
) -> Iterator[Delivered]:
    """Render slides and deliver them into an inbox, one after the other.

    Args:
        inbox: folder to write to.
        plans: the slides.
        seed: seed by which a style is drawn for each slide.
        bytes_per_second: speed of the writing.
        write: renders a slide into a file.
        styles: styles to draw from.

    Yields:
        Each slide when it is complete.

    Raises:
        OSError: the inbox cannot be written.
    """
    rng = np.random.default_rng([seed, 8])
    with tempfile.TemporaryDirectory(prefix="her2d-scanner-") as folder:
        for plan in plans:
            finished = Path(folder) / f"{plan.name}.tif"
            write(plan, finished)
            style = styles[rng.integers(len(styles))]
            target = inbox / finished.name
            deliver(finished, target, style=style, bytes_per_second=bytes_per_second)
            finished.unlink()
            yield Delivered(plan, target, style)
