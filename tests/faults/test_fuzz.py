"""A TIFF with any structure gives tiles or a reason, and never a crash or a hang."""

import os
import selectors
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import tifffile

pytestmark = pytest.mark.slow

MOST_SECONDS = 10.0  # of processor time for one file
MOST_SILENT_S = 120.0  # of wall time, on a machine busy with other things
MOST_RSS_MIB = 512.0  # of the reading process, libraries included


@dataclass
class Findings:
    """The outcome of a run of the fuzzer."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)
    rss_mib: float = 0.0

    def take(self, line: str) -> None:
        word, case, *rest = line.split()
        if word == "end":
            self.outcomes[rest[1]] += 1
            self.slowest = max(self.slowest, (float(rest[0]), int(case)))


@pytest.fixture
def seeds(tmp_path) -> Path:
    """Valid slides with all compressions, byte orders, sizes, pyramids and SubIFDs."""
    folder = tmp_path / "seeds"
    folder.mkdir()
    y, x = np.mgrid[:600, :700]
    picture = np.stack([x % 251, y % 241, (x + y) % 239], axis=-1).astype(np.uint8)
    text = "Motic V1.0.0\n700x600 [0,0 700x600] [256x256] JPEG/RGB Q = 75|AppMag = 4|MPP = 2.5"
    kinds = {
        "jpeg": {"tile": (256, 256), "compression": "jpeg"},
        "jpeg2000": {"tile": (256, 256), "compression": 34712},
        "lzw": {"rowsperstrip": 64, "compression": "lzw"},
        "deflate": {"tile": (256, 256), "compression": "zlib", "predictor": True},
        "raw": {"rowsperstrip": 600},
        "packbits": {"rowsperstrip": 128, "compression": "packbits"},
        "planar": {"tile": (256, 256), "compression": "zlib", "planarconfig": "separate"},
        "zstd": {"tile": (256, 256), "compression": "zstd", "predictor": True},
        "lzma": {"tile": (256, 256), "compression": "lzma"},
        "webp": {"tile": (256, 256), "compression": "webp"},
        "png": {"tile": (256, 256), "compression": "png"},
        "lerc": {"tile": (256, 256), "compression": "lerc"},
        "jpegxl": {"tile": (256, 256), "compression": "jpegxl"},
        "jpegxr": {"tile": (256, 256), "compression": "jpegxr"},
    }
    for name, options in kinds.items():
        for layout in ({}, {"bigtiff": True}, {"byteorder": ">"}):
            path = folder / f"{name}{''.join(layout)}.tif"
            planar = "planarconfig" in options
            with tifffile.TiffWriter(path, **layout) as tiff:
                for level, subifds in (
                    (picture, 1),
                    (picture[::2, ::2], 0),
                    (picture[:60, :70], 0),
                ):
                    image = np.moveaxis(level, -1, 0) if planar else level
                    tiff.write(
                        image, photometric="rgb", description=text if subifds else None,
                        metadata=None, subifds=subifds or None, **options,
                    )  # fmt: skip
    return folder


def fuzz(seeds: Path, first: int, last: int, folder: Path) -> Findings:
    """Run cases in a separate process, and watch it."""
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), str(seeds)]
    findings = Findings()
    with subprocess.Popen(
        [*command, str(first), str(last), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        last_line = watch(process, findings)
        error = process.stderr.read()
    assert process.returncode == 0, f"{last_line}: {error[-2000:]}"
    assert sum(findings.outcomes.values()) == last - first
    return findings


def watch(process: subprocess.Popen[str], findings: Findings) -> str:
    """Read the output of the fuzzer until it ends, and return the last line."""
    reading = selectors.DefaultSelector()
    reading.register(process.stdout, selectors.EVENT_READ)
    line = ""
    while True:
        if not reading.select(MOST_SILENT_S):
            process.kill()
            raise AssertionError(f"it hangs: {line}")
        if not (new := process.stdout.readline()):
            return line
        line = new.strip()
        findings.take(line)
        if line.startswith("end"):
            findings.rss_mib = max(findings.rss_mib, _peak_mib(process.pid))


def _peak_mib(pid: int) -> float:
    """Return the peak memory of a running process, which is VmHWM of proc(5)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(peaks[0]) / 1024 if peaks else 0.0


def check(findings: Findings) -> None:
    print(  # noqa: T201
        f"{dict(findings.outcomes)}, slowest {findings.slowest[0]:.2f} s (case"
        f" {findings.slowest[1]}), peak {findings.rss_mib:.0f} MiB"
    )
    assert set(findings.outcomes) == {"read", "damaged", "refused"}
    assert findings.slowest[0] < MOST_SECONDS
    assert findings.rss_mib < MOST_RSS_MIB


def test_500_mutated_structures_end_in_tiles_or_a_reason(seeds, tmp_path):
    check(fuzz(seeds, 0, 500, tmp_path))


@pytest.mark.soak
def test_100_000_mutated_structures_end_in_tiles_or_a_reason(seeds, tmp_path):
    cases = int(os.environ.get("SOAK_FUZZ", "100000"))
    for first in range(0, cases, 5000):
        check(fuzz(seeds, 10_000 + first, 10_000 + min(first + 5000, cases), tmp_path))
