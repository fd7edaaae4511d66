"""Commands whose optional packages are not installed: one sentence with a remedy, no traceback."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from her2d.cli.app import app, main
from her2d.system import extras
from her2d.system.extras import MODULES, installing
from tools.bundle_results.paper import COUNTS

ROOT = Path(__file__).parents[2]
# The modules of packages whose names differ from theirs.
IMPORTED_AS = {
    "scikit-image": "skimage",
    "xgboost-cpu": "xgboost",
    "openslide-python": "openslide",
    "openslide-bin": "openslide_bin",
    "tensorrt-rtx-cu12": "tensorrt_rtx",
}
# What `browse` and `export` always need, which an incomplete installation may lack.
ALWAYS = ("starlette", "uvicorn", "cachetools", "shapely", "fhir")
BLOCKED = sorted({*ALWAYS, *(module for modules in MODULES.values() for module in modules)})

# Runs each command as `her2d` does, in one process in which the packages cannot be imported.
PROGRAM = """
import contextlib, io, json, sys, traceback

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = json.loads(sys.argv[1])
sys.meta_path.insert(0, Blocked())
from her2d.cli import main

ends = []
for arguments in json.load(sys.stdin):
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["her2d", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            code = traceback.format_exc()
    ends.append([code, out.getvalue(), err.getvalue()])
json.dump(ends, sys.__stdout__)
"""

SLIDE = "a.tif"
# Every command, with arguments that bring it to its packages: None where it needs none of them.
NEEDED = {
    ("evaluate", "--study", "study"): "train",
    ("evaluate", "misdiagnosis", "--counts", "COUNTS"): None,
    ("prepare", "cohort.csv", "--study", "study"): "train",
    ("train", "segmenter", "--study", "study"): "train",
    ("train", "classifiers", "--study", "study"): "train",
    ("train", "integrator", "--study", "study"): "train",
    ("train", "all", "--study", "study"): "train",
    ("bundle", "build", "built", "--study", "study"): "train",
    ("bundle", "info", "CONFIG"): None,
    ("bundle", "verify", "CONFIG"): None,
    ("compile", "--backend", "tensorrt", "CONFIG"): "tensorrt",
    ("compile", "--backend", "tensorrt-rtx", "CONFIG"): "tensorrt-rtx",
    ("compile", "--backend", "onnxruntime", "CONFIG"): "onnxruntime",
    ("compile", "--backend", "openvino", "CONFIG"): "openvino",
    ("browse", "--port", "0", "CONFIG"): "",
    ("export", SLIDE, "--format", "geojson", "-o", "out", "CONFIG"): "",
    ("export", SLIDE, "--format", "fhir", "-o", "out", "CONFIG"): "",
    ("export", SLIDE, "--format", "parquet", "-o", "out", "CONFIG"): "parquet",
    ("export", SLIDE, "--format", "csv", "-o", "out", "CONFIG"): None,
    ("export", SLIDE, "--format", "html", "-o", "out", "CONFIG"): None,
    ("export", SLIDE, "--format", "png", "-o", "out.png", "CONFIG"): None,
    ("export", SLIDE, "--format", "ome-tiff", "-o", "out.tif", "CONFIG"): None,
    ("simulate", "cohort", "sim", "--slides", "1", "--width", "1024", "--height", "1024"): None,
    ("simulate", "scanner", "in", "--slides", "1", "--width", "1024", "--height", "1024"): None,
    ("scan", "SLIDE", "CONFIG"): None,
    ("results", "CONFIG"): None,
    ("show", SLIDE, "CONFIG"): None,
    ("heatmap", SLIDE, "CONFIG"): None,
    ("compare", "BUNDLE", "BUNDLE", "CONFIG"): None,
    ("doctor", "CONFIG"): None,
    ("queue", "ls", "CONFIG"): None,
    ("db", "history", "CONFIG"): None,
    ("outcomes", "ls", "CONFIG"): None,
    ("config", "show", "CONFIG"): None,
}


def leaves(command, words=()):
    children = getattr(command, "commands", {})
    if not children or getattr(command, "invoke_without_command", False):
        yield words
    for name, child in children.items():
        yield from leaves(child, (*words, name))


def test_each_command_that_imports_research_asks_for_its_packages_first():
    commands = {path.stem: path.read_text() for path in (ROOT / "her2d" / "cli").glob("*.py")}
    importing = {name for name, source in commands.items() if "from her2d.research" in source}
    asking = {name for name, source in commands.items() if 'require_extra("train", ' in source}
    assert importing == asking
    tried = {words[0] for words, extra in NEEDED.items() if extra == "train"}
    assert importing == tried


HELP = [(*words, "--help") for words in leaves(get_command(app))]


@pytest.fixture(scope="module")
def ends(tmp_path_factory, color_bundle, write_slide_into):
    """How each command of the table ended: exit code, stdout, stderr."""
    folder = tmp_path_factory.mktemp("bare")
    slide = write_slide_into(folder, ["Sw"], SLIDE)
    (folder / "inbox").mkdir()
    config = folder / "config.toml"
    config.write_text(
        f'[bundle]\npath = "{color_bundle.directory}"\n[inference]\nthreads = 1\n[ops]\nport = 0\n'
    )
    known = {
        "CONFIG": ["--config", str(config)],
        "SLIDE": [str(slide)],
        "COUNTS": [str(COUNTS)],
        "BUNDLE": [color_bundle.manifest.name],
    }
    orders = [("scan", "SLIDE", "CONFIG"), *NEEDED, *HELP]
    lines = [[part for word in words for part in known.get(word, [word])] for words in orders]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(BLOCKED)],
        input=json.dumps(lines),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(orders, json.loads(done.stdout), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("words", NEEDED, ids=" ".join)
def test_a_command_without_its_packages_says_one_sentence_with_a_remedy(ends, words):
    code, _, err = ends[words]
    extra = NEEDED[words]
    if extra is None:
        assert code == 0, err
        return
    assert code == 1, err
    assert err.startswith("her2d: ")
    assert err.count("\n") == 1
    assert err.endswith(f"with: {installing(extra or None)}\n")
    named = MODULES[extra] if extra else ALWAYS
    assert any(module in err for module in named)


@pytest.mark.slow
@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_the_help_of_every_command_needs_no_package(ends, words):
    code, out, err = ends[words]
    assert (code, err) == (0, "")
    assert "Usage: " in out


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate",),
        ("prepare", "cohort.csv"),
        ("train", "all"),
        ("train", "segmenter"),
        ("bundle", "build", "built"),
    ],
    ids=" ".join,
)
def test_a_training_without_one_package_of_many_does_not_begin(
    monkeypatch, capsys, tmp_path, words
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "xgboost", None)
    monkeypatch.setattr("sys.argv", ["her2d", *words])
    with pytest.raises(SystemExit) as end:
        main()
    command = " ".join(words[: 1 if words[0] == "prepare" else 2])
    assert (end.value.code, capsys.readouterr().err) == (
        1,
        f"her2d: her2d {command} needs the Python package xgboost, not installed here; install it"
        f" with: {installing('train')}\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_the_extras_are_those_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        extra: {
            IMPORTED_AS.get(name, name)
            for requirement in packages
            if (name := re.split(r"\[|>", requirement)[0]) != "jinja2"  # always installed
        }
        for extra, packages in project["optional-dependencies"].items()
        if extra not in ("dev", "docs")
    }
    assert {extra: set(modules) for extra, modules in MODULES.items()} == declared


def test_the_remedy_names_this_python_the_extra_and_tested_versions():
    python, *words, constraints = installing("parquet").split()
    assert python == sys.executable
    assert words == ["-m", "pip", "install", "'her2d[parquet]'", "-c"]
    assert Path(constraints).read_text() == (ROOT / "constraints.txt").read_text()


def test_who_may_not_write_to_the_installation_is_told_to_use_sudo(monkeypatch):
    monkeypatch.setattr(extras.os, "access", lambda path, mode: False)
    assert installing("train").startswith(f"sudo {sys.executable} -m pip install")


def test_without_pip_it_is_installed_first(monkeypatch):
    monkeypatch.setattr(extras, "is_installed", lambda module: module != "pip")
    assert installing(None).startswith(f"{sys.executable} -m ensurepip && {sys.executable} -m pip")
