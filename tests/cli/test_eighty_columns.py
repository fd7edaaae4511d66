"""Every table, on a terminal of 80 columns and without one: nothing is broken, cut or lost."""

import re
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from many_slides import add_scored_slides
from typer.testing import CliRunner

from her2d.bundle.manifest import CallCounts
from her2d.cli.app import app
from her2d.db.connection import open_database
from her2d.queue.store import JobQueue
from her2d.research.evaluation.confusion import Confusion
from her2d.research.evaluation.report import Report, SlideRow, ValidationRow
from her2d.research.evaluation.rows import Interval
from her2d.research.evaluation.share_validation import Agreement
from her2d.system.file_identity import FileState
from tools.bundle_results.paper import COUNTS

STYLES = re.compile(r"\x1b\[[\d;]*m")
LONG = "2026-11-27_gastric_biopsy_0012345_rescan_B.tif"
OUTCOMES = f"slide,ihc,fish,ihc_percent,read_on,read_by\n{LONG},2+,amplified,35,2026-03-01,A. Li\n"
WIDE = Interval(value=0.9123, low=0.8001, high=0.9712)


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory, color_bundle, write_slide_into) -> list[str]:
    """A database with everything that a table may list; returns the option that names it."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "inbox").mkdir()
    slides = [str(write_slide_into(folder, rows, name)) for rows, name in SLIDES]
    strict = folder / "strict"
    shutil.copytree(color_bundle.directory, strict)
    manifest = (strict / "manifest.toml").read_text().replace('version = "1"', 'version = "2"')
    (strict / "manifest.toml").write_text(f"{manifest}\n[decision]\nthreshold = 0.6\n")
    config = folder / "config.toml"
    option = ["--config", str(config)]
    for bundle in (strict, color_bundle.directory):
        config.write_text(
            f'[bundle]\npath = "{bundle}"\n[inference]\nthreads = 1\n[ops]\nport = 0\n'
        )
        done = CliRunner().invoke(app, ["scan", *slides, *option])
        assert done.exit_code == 0, done.output
    (folder / "ihc.csv").write_text(OUTCOMES)
    CliRunner().invoke(app, ["outcomes", "import", str(folder / "ihc.csv"), *option])
    database = folder / "her2d.sqlite"
    names = add_scored_slides(database, [*range(20, 60), *(0.1 * n for n in range(60))])
    rows = [f"{name},{'3+' if n < 40 else '0'},,1" for n, name in enumerate(names)]
    (folder / "all.csv").write_text("\n".join(["slide,ihc,fish,ihc_percent", *rows]) + "\n")
    with closing(open_database(database)) as db:
        reason = f"{LONG} is not finished: block 7,7 of level 0 is not stored."
        JobQueue(db, "li: her2d scan").refuse(Path("/in") / LONG, FileState(1, 1, 1), reason)
    return option


SLIDES = [(["SSw.", "ws..", "..sS"], LONG), (["Sw"], "a.tif"), (["ss"], "benign.tif")]
COMMANDS = [
    ("results",),
    ("show", "a.tif"),
    ("show", LONG),
    ("queue", "ls"),
    ("db", "history"),
    ("outcomes", "ls"),
    ("compare", "colors 1", "colors 2"),
    ("calibrate", "--outcomes", "ALL"),
    ("bundle", "info"),
    ("doctor",),
]


def printed(arguments: list[str], **environment: str) -> list[str]:
    done = CliRunner().invoke(app, arguments, env=environment)
    assert done.exit_code in (0, 1), done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    # The doctor measures how long an engine takes, how much is free, and the time.
    text = STYLES.sub("", done.stdout)
    return re.sub(r"[\d.]+ (s\b|GB)|\d\d:\d\d", "1", text).splitlines()


def check(arguments: list[str]) -> None:
    """Raise AssertionError unless the tables of a command can be read."""
    on_terminal = printed(arguments, COLUMNS="80", TTY_COMPATIBLE="1")
    in_pipe = printed(arguments, COLUMNS="80")
    assert in_pipe == printed(arguments, COLUMNS="400")  # no width breaks or cuts a line
    whole = {word for line in in_pipe for word in line.split()}
    rules = [at for at, line in enumerate(on_terminal) if set(line) == {"─"}]
    headings = {on_terminal[at - 1] for at in rules}
    for heading in headings:
        # One line: every column of it is a column of the listing without a terminal.
        columns = re.split(r" {2,}", heading.strip())
        assert any(set(columns) <= set(re.split(r" {2,}", line.strip())) for line in in_pipe)
    for line in on_terminal:
        # A name, path or hash is whole; a sentence beneath the tables is the terminal's to wrap.
        is_long_name = max((len(word) for word in line.split()), default=0) > 40
        is_sentence = line in in_pipe and line.endswith(".")
        assert len(line) <= 80 or is_long_name or is_sentence, line
    numbers = [word for line in on_terminal for word in line.split() if re.search(r"\d", word)]
    told = re.compile(r"^[\d.,:–+-]+$")
    assert [word for word in numbers if told.match(word) and word not in whole] == []


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_table_can_be_read_at_80_columns_and_without_a_terminal(laboratory, words):
    folder = Path(laboratory[1]).parent
    check([word.replace("ALL", str(folder / "all.csv")) for word in words] + laboratory)


def test_the_tables_of_misdiagnosis_show_all_at_80_columns():
    arguments = ["evaluate", "misdiagnosis", "--counts", str(COUNTS)]
    check(arguments)
    lines = printed(arguments, COLUMNS="80", TTY_COMPATIBLE="1")
    assert max(map(len, lines)) <= 80
    assert not any("Not shown" in line for line in lines)


@pytest.mark.slow
def test_the_tables_of_an_evaluation_fit_into_80_columns_with_and_without_a_terminal(
    monkeypatch, tmp_path
):
    evaluation = pytest.importorskip("her2d.research.evaluation.evaluate")
    slides = tuple(
        SlideRow(
            integrator=name,
            selected=name == "hard_voting",
            set=test_set,
            confusion=Confusion(tp=123, fn=12, fp=110, tn=456),
            indeterminate=101,
            without_tumor=CallCounts(positive=10, negative=100, indeterminate=112),
            accuracy=WIDE,
            sensitivity=WIDE,
            specificity=WIDE,
            auroc=WIDE,
            accuracy_of_all=0.8765,
        )
        for name in ("lr", "xgboost", "soft_voting", "hard_voting")
        for test_set in ("integrator", "external")
    )
    share = Agreement(
        slides=123,
        bias=-12.345,
        mean_absolute_error=10.23,
        limits_low=-45.67,
        limits_high=34.56,
        covered=WIDE,
        same_status=WIDE,
    )
    report = Report.model_construct(
        segmenter="deeplabv3plus",
        classifier="densenet121",
        slides=slides,
        validation=(ValidationRow.model_construct(set="external", by_tile=share, by_area=share),),
        interval="It is calibrated.",
    )
    monkeypatch.setattr(evaluation, "evaluate", lambda *args, **options: report)
    monkeypatch.setattr(evaluation, "write_report_pdf", lambda study: None)
    arguments = ["evaluate", "--study", str(tmp_path)]
    check(arguments)
    for environment in ({"TTY_COMPATIBLE": "1"}, {}):
        lines = printed(arguments, COLUMNS="80", **environment)
        assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
        said = "\n".join(lines)
        assert "Not shown" not in said
        for value in (
            "0.912 (0.800 to 0.971)",
            "0.876",
            "-45.67 to 34.56",
            "hard_voting (chosen)",
        ):
            assert value in said
