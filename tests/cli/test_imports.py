"""Which large libraries a command imports: none that its work does not need."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from laboratory import Laboratory
from typer.main import get_command

from her2d.cli.app import COMMANDS, app
from her2d.db.connection import open_database
from her2d.queue.store import JobQueue
from her2d.system.file_identity import FileState

HEAVY = frozenset(
    {"onnxruntime", "openvino", "sklearn", "skops", "scipy", "torch", "monai", "lightning", "onnx"}
    | {"tensorrt", "tensorrt_rtx", "pycuda", "xgboost", "skimage", "zarr", "matplotlib", "pandas"}
    | {"weasyprint"}
    | {
        "cv2",
        "imagecodecs",
        "simplejpeg",
        "tifffile",
        "zxingcpp",
        "openslide",
        "wsidicom",
        "pydicom",
        "PIL",
    }
    | {"shapely", "pyarrow", "fhir", "jinja2", "datasette", "uvicorn", "starlette", "fastapi"}
    | {"httpx", "watchdog", "prometheus_client"}
)

# Runs commands one after the other, and notes what each has imported that none before it had.
RUN = """
import json, sys
from her2d.cli import main
heavy, commands = map(json.loads, sys.argv[1:])
before, new = set(), {}
for command in commands:
    sys.argv = ["her2d", *command.split()]
    code = 0
    try:
        main()
    except SystemExit as exit_:
        code = exit_.code or 0
    assert code == 0, command
    found = {name.partition(".")[0] for name in sys.modules} & set(heavy)
    new[command] = sorted(found - before)
    before |= found
print(json.dumps(new), file=sys.stderr)
"""


def newly_imported(folder: Path, *commands: str) -> dict[str, set[str]]:
    """Run commands in one process; return the large libraries that each was the first to import."""
    found = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(sorted(HEAVY)), json.dumps(commands)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return {command: set(new) for command, new in json.loads(found.stderr.splitlines()[-1]).items()}


def test_no_help_page_imports_an_engine(tmp_path):
    pages = ["--help", *(f"{command.name} --help" for command in COMMANDS)]
    found = newly_imported(tmp_path, *pages)
    # It examines the webhook, the watcher and the port.
    assert found.pop("doctor --help") <= {"httpx", "watchdog", "prometheus_client"}
    assert {page: new for page, new in found.items() if new} == {}


PLUGIN = """
print("a plugin of another package")
class Plugin:
    def new_schema_validator(self, *_args, **_more):
        return None, None, None
plugin = Plugin()
"""


@pytest.mark.parametrize(
    ("library", "use", "command"),
    [
        (
            "pydantic",
            "import pydantic; type('M', (pydantic.BaseModel,), {})",
            ["config", "example"],
        ),
        (
            "sqlite_utils",
            "import sqlite_utils; sqlite_utils.Database(memory=True)",
            ["db", "create"],
        ),
    ],
)
def test_no_plugin_that_another_package_has_for_a_library_is_imported(
    library, use, command, tmp_path
):
    package = tmp_path / "other-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(f"[{library}]\nother = other:plugin\n")
    (tmp_path / "other.py").write_text(PLUGIN)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    environment.pop("PYDANTIC_DISABLE_PLUGINS", None)  # which this process has set for commands
    run = partial(
        subprocess.run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    found = run([sys.executable, "-c", use])
    assert "a plugin of another package" in found.stdout
    found = run([sys.executable, "-m", "her2d", *command])
    assert "a plugin of another package" not in found.stdout


def test_each_summary_in_the_help_page_is_the_first_line_of_the_commands_own():
    group = get_command(app)
    summaries = {command.name: command.summary for command in COMMANDS}
    assert summaries == {
        name: command.help.strip().partition("\n")[0] for name, command in group.commands.items()
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory, color_bundle, write_slide_into) -> Path:
    """A folder with one scored slide and one waiting job."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "inbox").mkdir()
    (folder / "config.toml").write_text(
        f'[bundle]\npath = "{color_bundle.directory}"\n[inference]\nthreads = 1\n'
    )
    site = Laboratory(folder)
    assert site.run("scan", write_slide_into(folder, ["Sw", "wS"], "a.tif")).exit_code == 0
    db = open_database(site.database)
    JobQueue(db).discover(folder / "inbox" / "b.tif", folder / "inbox", FileState(1, 1, 1))
    db.close()
    return folder


LIGHT = (
    "results",
    "results --json",
    "results --text a --since 2020-01-01 --csv",
    "show a.tif",
    "heatmap a.tif",
    "queue ls",
    "queue ls --json",
    "queue priority 1 5",
    "queue reprocess",
    "backfill --json",
    "backfill --pause",
    "config show",
    "config check",
    "config example",
    "db check",
    "db backup",
    "db prune",
    "db vacuum",
    "db migrate",
    "db history",
    "outcomes ls",
    "outcomes template",
    "bundle info",
    "bundle verify",
    "export a.tif --format csv -o out",
    "export a.tif --format png -o out",
)


def test_a_command_that_needs_no_engine_imports_none(site):
    assert {command: new for command, new in newly_imported(site, *LIGHT).items() if new} == {}


# Runs a command, and names the modules of her2d that were imported.
MODULES = """
import sys
from her2d.cli import main
sys.argv[0] = "her2d"
try:
    main()
except SystemExit as exit_:
    assert not exit_.code
print(*(name.removeprefix("her2d.") for name in sys.modules if name.startswith("her2d.")),
      file=sys.stderr)
"""
NEVER = frozenset({"archive", "browse", "cluster", "daemon", "doctor", "research", "simulator"})


@pytest.mark.parametrize(
    ("command", "others"),
    [
        ("queue ls", {"bundle", "inference", "pipeline", "processing", "results", "slides"}),
        ("results", {"bundle.loading", "inference.engine", "processing", "slides.reader"}),
        ("scan d.tif", {"intake.watcher", "results.export", "webhook"}),
    ],
)
def test_a_command_imports_no_part_that_its_work_does_not_need(
    command, others, site, write_slide_into
):
    write_slide_into(site, ["S"], "d.tif")
    found = subprocess.run(
        [sys.executable, "-c", MODULES, *command.split()],
        cwd=site,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    modules = {f"{name}." for name in found.stderr.split()}
    assert "cli.app." in modules
    unneeded = tuple(f"{name}." for name in {*others, *NEVER})
    assert {name for name in modules if name.startswith(unneeded)} == set()


def test_an_export_imports_the_library_of_its_format(site):
    formats = {"parquet": {"pyarrow"}, "geojson": {"cv2", "shapely"}, "html": {"jinja2"}}
    commands = {f"export a.tif --format {name} -o out": name for name in formats}
    found = newly_imported(site, *commands)
    assert {commands[command]: new for command, new in found.items()} == formats


def test_a_scan_imports_no_scikit_learn(site, write_slide_into):
    write_slide_into(site, ["w"], "c.tif")
    found = newly_imported(site, "scan c.tif")["scan c.tif"]
    assert "onnxruntime" in found
    # SciPy computes the interval of a bundle that is not calibrated, as this one.
    assert found <= {
        "onnxruntime",
        "cv2",
        "imagecodecs",
        "simplejpeg",
        "tifffile",
        "zxingcpp",
        "scipy",
    }
