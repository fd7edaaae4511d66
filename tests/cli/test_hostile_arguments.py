"""Whatever a command is given, it ends with a documented exit code and one sentence.

Every command and every parameter is found by introspection, so that a new one is tried as well.
Each call has one hostile value, of the parameter's type, and is otherwise sound.
"""

import inspect
import io
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from her2d.cli import main
from her2d.cli.app import app

PATIENCE_S = 60
EXIT_CODES = (0, 1, 2)  # docs: reference/exit-codes.md
# A command's, and that of `her2d run`, whose stderr is its log.
SENTENCES = ("her2d: ", '{"event": "daemon_failed", "reason": "')
MOST_CHARACTERS = 12_000  # of what is said of paths as long as Linux takes, or longer

HUGE = ("9" * 30, str(2**63), str(-(2**63) - 1), "-1", "0", "1" * 5000)
NAMES = ("", "~unknownuser", "\udcff\udcfe", "a" * 100_000, "%s" * 50, "\x1b[2J", "id:" + "9" * 30)
PATHS = (
    "~unknownuser/x",
    "a" * 5000,
    "/" + "a/" * 3000,
    "\udcff",
    "",
    ".",
    "/dev/full",
    "/dev/null",
)
TIMES = ("9999-12-31", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "10000-01-01")
FLOATS = ("inf", "-inf", "nan", "1e308", "1e-308", "-1", "0")

CONFIGS = {
    "a user who does not exist": '[intake]\ninboxes = ["~unknownuser/x"]',
    "a database of a user who does not exist": '[results]\ndatabase = "~unknownuser/x"',
    "a deep list": "[intake]\ninboxes = " + "[" * 2_000 + "]" * 2_000,
    "a deep table": "[" + ".".join("a" * 2_000) + "]",
    "deep keys": ".".join("a" * 2_000) + " = 1",
    "an over-long path": f'[results]\ndatabase = "{"a/" * 3000}"',
    "an over-long name": f'[results]\ndatabase = "{"a" * 300}"',
    "an over-long bundle": f'[bundle]\npath = "{"a/" * 3000}"',
    "a null character in a path": '[results]\ndatabase = "a\\u0000b"',
    "a null character in an inbox": '[intake]\ninboxes = ["a\\u0000b"]',
    "a null character in the bundle": '[bundle]\npath = "a\\u0000b"',
    "a null character in a pattern": '[intake]\nignore = ["a\\u0000b"]',
    "an integer over 2^63": f"[ops]\nport = {2**70}",
    "slides over 2^63": f"[pipeline]\nslides_in_flight = {2**70}",
    "a long integer": f"[pipeline]\nqueue_tiles = {'9' * 10_000}",
    "more threads than any machine": "[inference]\nthreads = 999999999",
    "an endless time": "[intake]\nsettle_s = 1e400",
    "a date for a number": "[intake]\nsettle_s = 9999-12-31",
    "bytes that are not UTF-8": b"[intake]\ninboxes = ['\xff\xfe']",
    "a database that is a folder": '[results]\ndatabase = "."',
    "a database on a device": '[results]\ndatabase = "/dev/full"',
    "heatmaps on a device": '[results]\nheatmaps = "/dev/full/x"',
    "a host that is no host": '[ops]\nhost = "\\u0000"',
    "an over-long host": f'[ops]\nhost = "{"a" * 300}"',
    "an odd address": '[webhook]\nurl = "http://[::1"',
    "an over-long address": f'[webhook]\nurl = "http://{"a" * 70}.example/{"a" * 3000}"',
}
VARIABLES = {
    "HER2D_CONFIG": ("~unknownuser/x", "\udcff", "a" * 5000, "."),
    "HER2D_RESULTS__DATABASE": ("~unknownuser/x", "\udcff\udcfe", "a" * 5000, "/dev/full"),
    "HER2D_INTAKE__INBOXES": ('["~unknownuser/x"]', "\udcff", "[" * 2_000, '["\\udcff"]'),
    "HER2D_INTAKE": ("[" * 2_000, "{", "\udcff"),
    "HER2D_OPS__PORT": (str(2**70), "9" * 5000),
    "HER2D_WEBHOOK__URL": ("\udcff", "http://\udcff/"),
    "HER2D_OPS__PSEUDONYM_KEY": ("\udcff" * 20,),
    "HER2D_\udcff": ("1",),
    "HER2D_A__B": ("\udcff",),
    "SUDO_USER": ("\udcff",),
    "COLUMNS": (str(2**70), "-1", "\udcff", "0"),
    "HOME": ("\udcff", "/dev/full"),
    "TMPDIR": ("\udcff", "~unknownuser"),
}


def leaves(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that can be called, with its words."""
    subs = getattr(command, "commands", {})
    if not subs or getattr(command, "invoke_without_command", False):
        yield path, command
    for name, sub in subs.items():
        yield from leaves(sub, *path, name)


COMMANDS = dict(leaves(get_command(app)))
"""All commands by their words."""


@dataclass(frozen=True)
class Ended:
    """How a call ended."""

    code: object
    out: bytes
    err: str

    def problem(self) -> str | None:
        """Return what is wrong with that; None if nothing is."""
        if self.code not in EXIT_CODES:
            return f"ended with {self.code!r}"
        lines = self.err.strip().splitlines()
        if self.code == 1:
            if not lines and not self.out:
                return "said nothing"
            if wrong := [line for line in lines if not line.startswith(SENTENCES)]:
                return f"said {wrong[0][:200]!r}"
            if len(self.err) > MOST_CHARACTERS:
                return f"said {len(self.err)} characters"
        if "Traceback" in self.err:
            return "printed a traceback"
        return None


def call(*arguments: str) -> Ended:
    """Call the entry point in this process, as the shell does."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    before = sys.argv, sys.stdout, sys.stderr, sys.excepthook
    sys.argv, sys.stdout, sys.stderr = ["her2d", *arguments], out, err
    code: object = 0
    try:
        with in_time():
            main()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException as error:  # noqa: BLE001  a traceback is what is looked for
        code = f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        sys.argv, sys.stdout, sys.stderr, sys.excepthook = before
    err.flush()
    return Ended(code, out.buffer.getvalue(), err.buffer.getvalue().decode("utf-8", "replace"))


@contextmanager
def in_time() -> Iterator[None]:
    def too_long(*_: object) -> None:
        raise TimeoutError(f"not ended after {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def scored(tmp_path_factory, color_bundle, write_slide_into) -> Path:
    """A laboratory with one scored slide, which is slide 1 and job 1."""
    folder = tmp_path_factory.mktemp("scored") / "lab"
    (folder / "inbox").mkdir(parents=True)
    (folder / "config.toml").write_text(
        f'[bundle]\npath = "{color_bundle.directory}"\n[inference]\nthreads = 1\n[ops]\nport = 0\n'
    )
    slide = write_slide_into(folder / "inbox", ["wS"], "a.tif")
    command = ["scan", str(slide), "--config", str(folder / "config.toml")]
    assert CliRunner().invoke(app, command).exit_code == 0
    return folder


@pytest.fixture
def site(scored, tmp_path, monkeypatch) -> Path:
    """The laboratory, as the current folder, in which nothing long is started."""
    folder = tmp_path / "lab"
    shutil.copytree(scored, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("her2d.browse.server.serve", lambda *_: None)
    monkeypatch.setattr("her2d.simulator.cohort.write_cohort", planned)
    monkeypatch.setattr("her2d.simulator.scanner.run_scanner", planned)
    monkeypatch.setattr("her2d.cli.demo._daemon", no_daemon)
    monkeypatch.setattr("her2d.cli.demo._follow", lambda *_: None)
    monkeypatch.setattr("her2d.daemon.service.Daemon.run", lambda _: None)
    monkeypatch.setattr("her2d.daemon.signal_thread.handle_in_thread", lambda _: None)
    monkeypatch.setattr("her2d.simulator.tissue.tissue_tiles", few_tiles)
    return folder


@contextmanager
def no_daemon(*_: object) -> Iterator[object]:
    class Alive:
        def check(self) -> None:
            pass

    yield Alive()


def planned(_folder: object, plans: list, **_: object) -> list:
    """Stand in for rendering, and check that what would be rendered has a sensible size."""
    assert len(plans) <= 100_000
    assert all(plan.width * plan.height <= 10**11 for plan in plans)
    return []


def few_tiles(wanted: int) -> object:
    assert wanted <= 10_000
    raise ValueError("no tiles here")


def kind_of(command: Any, parameter: Any) -> type:
    """Return the type that the command's function declares for a parameter, of one value."""
    declared = get_type_hints(inspect.unwrap(command.callback))[parameter.name]
    while get_origin(declared) in (Union, UnionType, list):
        declared = next(each for each in get_args(declared) if each is not NoneType)
    return declared


def sound(kind: type, site: Path) -> str:
    """Return a value that a parameter of the type takes."""
    if issubclass(kind, Enum):
        return str(next(iter(kind)).value)
    return str(site / "out" / "some.csv") if kind is Path else "1"


def hostile(kind: type) -> tuple[str, ...]:
    """Return values that no parameter of that type expects."""
    return {
        bool: (),
        int: (*HUGE, "\udcff"),
        float: (*FLOATS, *HUGE, "\udcff"),
        Path: PATHS,
    }.get(kind, (*NAMES, *TIMES))


def words_of(parameter: Any, value: str) -> list[str]:
    option = parameter.opts[-1]
    return [f"{option}={value}"] if option.startswith("--") else [value]


def required_words(command: Any, site: Path, tried: Any = None, value: str = "") -> list[str]:
    """Return the words of a call: sound ones for what is required, and a value for one of them."""
    found = []
    for parameter in command.params:
        if parameter is tried:
            found += words_of(parameter, value)
        elif parameter.required:
            found += words_of(parameter, sound(kind_of(command, parameter), site))
    return found


def calls(command: Any, site: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each call with one hostile value, and what is hostile about it."""
    for tried in command.params:
        for value in hostile(kind_of(command, tried)):
            shown = value if len(value) < 60 else f"{value[:30]}... ({len(value)} characters)"
            yield f"{tried.name} = {shown!r}", required_words(command, site, tried, value)


def of(*paths: tuple[str, ...]) -> Any:
    return pytest.mark.parametrize("path", paths, ids=" ".join)


@pytest.mark.slow
@of(*COMMANDS)
def test_no_argument_makes_a_command_end_in_a_traceback(path, site):
    (site / "out").mkdir()
    found = []
    for what, words in calls(COMMANDS[path], site):
        if problem := call(*path, *words).problem():
            found.append(f"{what}: {problem}")
    assert not found, "\n".join(found)


@pytest.mark.slow
@of(*COMMANDS)
def test_no_environment_makes_a_command_end_in_a_traceback(path, site, monkeypatch):
    words = required_words(COMMANDS[path], site)
    found = []
    for variable, values in VARIABLES.items():
        for value in values:
            with monkeypatch.context() as patch:
                patch.setenv(variable, value)
                if problem := call(*path, *words).problem():
                    found.append(f"{variable} = {value[:30]!r}: {problem}")
    assert not found, "\n".join(found)


@pytest.mark.slow
@of(*(path for path, each in COMMANDS.items() if any(p.name == "config" for p in each.params)))
def test_no_config_makes_a_command_end_in_a_traceback(path, site):
    words = required_words(COMMANDS[path], site)
    config = site / "hostile.toml"
    found = []
    for what, text in CONFIGS.items():
        config.write_bytes(text if isinstance(text, bytes) else text.encode())
        if problem := call(*path, *words, "--config", str(config)).problem():
            found.append(f"{what}: {problem}")
    assert not found, "\n".join(found)


def test_all_commands_are_tried():
    assert len(COMMANDS) >= 38
    assert ("queue", "retry") in COMMANDS
    assert ("evaluate",) in COMMANDS
