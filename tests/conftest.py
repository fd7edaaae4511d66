"""A real bundle whose results are easy to know, for tests that are not about the models.

Its segmenter calls a pixel tumour where red is under 100; its five classifiers all give mean green
/ 255 as p(strong); its forest says strong above 0.355. The colours are in `stained_tiles`.
"""

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import tifffile
import tomli_w
from hypothesis import settings
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from stained_tiles import BACKGROUND, STROMA, TUMOR_STRONG, TUMOR_WEAK, stained

from her2d.archive.safe_move import part_of
from her2d.bundle import loading
from her2d.bundle.loading import Bundle, load_bundle, read_verified, sha256_of
from her2d.daemon.storage_probe import StorageProbe
from her2d.db import connection
from her2d.db.connection import open_database
from her2d.method import TILE_PX
from her2d.queue.store import JobQueue
from her2d.settings import Settings

# The machine may be under load, so that durations of examples mean nothing.
settings.register_profile("her2d", deadline=None)
settings.load_profile("her2d")

# Commands print local time; these tests, and the processes that they start, are in Greenwich.
os.environ["TZ"] = "UTC"
time.tzset()


ROOMS_THAT_TAKE_LONG = ("gpu", "packaging", "research")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let workers begin with the rooms that take minutes, each with another one.

    pytest-xdist gives each worker a part of the list, of equal length, and an idle worker takes
    tests from the end of another's part. A room that one worker reaches last keeps all waiting.
    """
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers == 1:
        return
    room_of = {item: item.path.relative_to(Path(__file__).parent).parts[0] for item in items}
    long = [[item for item in items if room_of[item] == room] for room in ROOMS_THAT_TAKE_LONG]
    rest = [item for item in items if room_of[item] not in ROOMS_THAT_TAKE_LONG]
    parts: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for number, room in enumerate(long):
        parts[number % workers] += room
    length = -(-len(items) // workers)
    for part in parts:
        missing = max(0, length - len(part))
        part.extend(rest[:missing])
        del rest[:missing]
    items[:] = [item for part in parts for item in part] + rest


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Restore the logging configuration, which commands and examples change for the process."""
    loggers = (logging.getLogger(), logging.getLogger("her2d"))
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    yield
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


@pytest.fixture
def files_hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files of bundles that are verified when they are loaded during the test, in that order.

    An engine verifies the bytes that it runs once more, which is not counted.
    """
    found: list[Path] = []

    def noted(path: Path, sha256: str) -> bytes:
        found.append(path)
        return read_verified(path, sha256)

    monkeypatch.setattr(loading, "read_verified", noted)
    return found


@pytest.fixture
def jobs(settings: Settings) -> Iterator[JobQueue]:
    """The queue in the database that the test's `settings` name."""
    db = open_database(settings.results.database)
    yield JobQueue(db)
    db.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport]:
    """Fail a test in CI if it was skipped because of a missing program; `.ci/run` installs all."""
    report = yield
    if report.skipped and os.environ.get("CI") and "is not installed" in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped in CI: {report.longrepr}"
    return report


@pytest.fixture
def hanging_archive(tmp_path) -> Iterator[Path]:
    """A folder on another file system, in which writing a copy of a.tif never ends."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=shm, ignore_cleanup_errors=True) as folder:
        # open(2) of a pipe without a reader waits in the kernel, as on a share that hangs.
        pipe = part_of(Path(folder) / "a.tif")
        os.mkfifo(pipe)
        yield Path(folder)
        if pipe.exists():
            os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))  # let waiting writers continue


_TILES = helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["N", 512, 512, 3])


def _constant(name: str, value: NDArray) -> onnx.TensorProto:
    return numpy_helper.from_array(value, name)


def _save(path: Path, nodes: list, outputs: list, constants: list) -> None:
    graph = helper.make_graph(nodes, path.stem, [_TILES], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _segmenter(path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["tiles", "channel"], ["red"], axis=3),
        helper.make_node("Cast", ["red"], ["red_float"], to=TensorProto.FLOAT),
        helper.make_node("Less", ["red_float", "limit"], ["is_tumor"]),
        helper.make_node("Cast", ["is_tumor"], ["mask"], to=TensorProto.UINT8),
        helper.make_node("Cast", ["is_tumor"], ["ones"], to=TensorProto.INT32),
        helper.make_node("ReduceSum", ["ones", "axes"], ["tumor_pixels"], keepdims=0),
    ]
    outputs = [
        helper.make_tensor_value_info("tumor_pixels", TensorProto.INT32, ["N"]),
        helper.make_tensor_value_info("mask", TensorProto.UINT8, ["N", 512, 512]),
    ]
    constants = [
        _constant("channel", np.array(0, np.int64)),
        _constant("limit", np.array(100, np.float32)),
        _constant("axes", np.array([1, 2], np.int64)),
    ]
    _save(path, nodes, outputs, constants)


def _classifiers(path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["tiles", "channels"], ["green"], axis=3),
        helper.make_node("Cast", ["green"], ["green_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["green_float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["mean", "full"], ["p"]),
        helper.make_node("Tile", ["p", "five"], ["p_strong"]),
    ]
    outputs = [helper.make_tensor_value_info("p_strong", TensorProto.FLOAT, ["N", 5])]
    constants = [
        _constant("channels", np.array([1], np.int64)),
        _constant("full", np.array(255, np.float32)),
        _constant("five", np.array([1, 5], np.int64)),
    ]
    _save(path, nodes, outputs, constants)


@pytest.fixture(scope="session")
def color_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    # Both take seconds, and many runs of tests need no bundle.
    import skops.io
    from sklearn.ensemble import RandomForestClassifier

    folder = tmp_path_factory.mktemp("bundle") / "colors"
    folder.mkdir()
    _segmenter(folder / "segmenter.onnx")
    _classifiers(folder / "classifiers.onnx")
    p = np.repeat(np.linspace(0, 1, 101)[:, None], 5, axis=1)
    forest = RandomForestClassifier(5, max_depth=2, random_state=0, bootstrap=False)
    skops.io.dump(forest.fit(p, (p[:, 0] > 0.355).astype(int)), folder / "integrator.skops")
    files = {
        "segmenter": "segmenter.onnx",
        "classifiers": "classifiers.onnx",
        "integrator": "integrator.skops",
    }
    manifest = {
        "name": "colors",
        "version": "1",
        "intended_use": "Tests.",
        "normalization": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
        "parts": {
            part: {"file": file, "sha256": sha256_of(folder / file), "architecture": "colours"}
            for part, file in files.items()
        },
        "training": {"cohort": "none", "seed": 0, "code_version": "0", "command": "pytest"},
        # Wide enough to include all colours.
        "stain": {
            "mean": [0.3, 0.6, 0.3],
            "std": [1.0, 1.0, 1.0],
            "saturation": {"mean": 120.0, "std": 100.0},
            "he": {
                "degrees": 180.0,
                "red_to_green": 100.0,
                "pink_percent": 0.0,
                "foreign_percent": 100.0,
                "stained_mm2": 0.0,
            },
        },
    }
    (folder / "manifest.toml").write_text(tomli_w.dumps(manifest))
    return load_bundle(folder)


WriteSlide = Callable[..., Path]


@pytest.fixture(scope="session")
def write_slide_into() -> WriteSlide:
    """Write a 4x Motic slide into a folder from a picture of its tiles: one letter each.

    `.` background, `s` stroma, `w` weak tumour, `S` strong tumour, `t` a twentieth strong tumour,
    `h` weak tumour in its left half.
    """

    def write(folder: Path, rows: list[str], name: str) -> Path:
        image = np.concatenate(
            [np.concatenate([_tile(letter) for letter in row], axis=1) for row in rows]
        )
        height, width = image.shape[:2]
        description = (
            f"Motic V1.0.0\n{width}x{height} [0,0 {width}x{height}] [512x512] none"
            f"|AppMag = 4|MPP = 2.5|BackgroundColor = 16514557|Barcode = {Path(name).stem}"
        )
        path = folder / name
        tifffile.imwrite(
            path,
            image,
            tile=(512, 512),
            compression="deflate",
            photometric="rgb",
            description=description,
            metadata=None,
        )
        return path

    return write


@pytest.fixture
def write_slide(tmp_path: Path, write_slide_into: WriteSlide) -> WriteSlide:
    """Call `write_slide_into` with the folder of this test, or with another one."""

    def write(rows: list[str], name: str = "slide.tif", *, folder: Path | None = None) -> Path:
        return write_slide_into(folder or tmp_path, rows, name)

    return write


def _tile(letter: str) -> NDArray[np.uint8]:
    if letter == ".":
        return np.full((TILE_PX, TILE_PX, 3), BACKGROUND, np.uint8)
    tile = stained({"w": TUMOR_WEAK, "S": TUMOR_STRONG}.get(letter, STROMA), TILE_PX, TILE_PX)
    if letter == "t":
        tile[:, :25] = stained(TUMOR_STRONG, TILE_PX, 25)
    if letter == "h":
        tile[:, :256] = stained(TUMOR_WEAK, TILE_PX, 256)
    return tile


@pytest.fixture
def storage(settings: Settings) -> Iterator[StorageProbe]:
    """The storage probe for the folders that the test's `settings` name."""
    found = StorageProbe(settings.intake.inboxes, settings.results.backups)
    yield found
    found.close()


class SecondMigration:
    """A migration that her2d has for the length of a test, beside its only real one."""

    def __init__(self, path: Path) -> None:
        self._first = connection._MIGRATIONS
        self._both = (*self._first, path)

    @contextlib.contextmanager
    def not_yet(self) -> Iterator[None]:
        """In the block her2d is the version before, which does not know the migration."""
        connection._MIGRATIONS = self._first
        try:
            yield
        finally:
            connection._MIGRATIONS = self._both


@pytest.fixture
def second_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SecondMigration:
    path = tmp_path / "migration" / "0002_second.sql"
    path.parent.mkdir()
    path.write_text(
        "alter table run_quality add column sharpness real;\n"
        "-- A comment; with a semicolon.\n"
        "create table second (x);\n"
    )
    found = SecondMigration(path)
    monkeypatch.setattr(connection, "_MIGRATIONS", (*connection._MIGRATIONS, path))
    return found
