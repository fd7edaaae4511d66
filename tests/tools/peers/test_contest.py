"""Contestants take turns, and one that fails is left out with its reason."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from her2d.bundle.manifest import Tolerance
from tools.peers.agreement import agreement
from tools.peers.contest import Contestant, Standing, Turn, compare
from tools.peers.report import Comparison, markdown, ratio

WORK = """
import json, sys
sys.path.insert(0, {root!r})
from tools.peers.served import arguments, serve

given = arguments()

def work():
    with open(given["diary"], "a") as diary:
        diary.write(given["name"] + " ")
    print("a library prints something")
    if given["name"] == "faulty":
        raise RuntimeError("the weights do not fit")
    sum(range(int(given["additions"])))
    return {{"percent": 12.5}}

serve(work, ["numpy"])
"""


@pytest.fixture
def contestant(tmp_path):
    """Return a contestant whose interpreter runs a small program in place of a module."""
    program = tmp_path / "program.py"
    program.write_text(WORK.format(root=str(Path(__file__).parents[3])))
    python = tmp_path / "python"
    # Given `-m MODULE ARGUMENTS`.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {program} "$3"\n')
    python.chmod(0o755)

    def make(name: str, additions: int = 1000) -> Contestant:
        diary = str(tmp_path / "diary")
        given = {"name": name, "additions": str(additions), "diary": diary}
        return Contestant(name, python, "none", given)

    return make


def test_contestants_take_turns_and_report_their_processor_time(contestant, tmp_path):
    pair = [contestant("quick"), contestant("slow", 3_000_000)]
    quick, slow = compare(pair, 3, tmp_path / "log")
    assert (tmp_path / "diary").read_text().split() == ["quick", "slow"] * 3
    assert [len(each.turns) for each in (quick, slow)] == [3, 3]
    assert slow.cpu_s > quick.cpu_s > 0
    assert quick.found == {"percent": 12.5}
    assert quick.versions == {"numpy": np.__version__}
    assert ratio(slow, quick).least > 1


def test_one_that_fails_is_left_out_with_its_reason(contestant, tmp_path):
    good, faulty = compare([contestant("good"), contestant("faulty")], 2, tmp_path / "log")
    assert len(good.turns) == 2
    assert faulty.turns == []
    assert faulty.problem == "RuntimeError: the weights do not fit"


def standing(name: str, *seconds: float, **found: object) -> Standing:
    turns = [Turn(each, each, 500.0) for each in seconds]
    return Standing(name, {"numpy": "2"}, turns, dict(found))


def test_a_ratio_is_of_each_repeat_by_itself():
    found = ratio(standing("theirs", 4.0, 9.0, 8.0), standing("ours", 2.0, 3.0, 4.0))
    assert (found.median, found.least, found.most) == (2.0, 2.0, 3.0)


def test_the_table_says_how_fast_each_is_whether_it_agrees_and_what_is_missing():
    ours = standing("her2d", 2.0, tumor_pixels=[200_000], p_folds=[[0.5] * 5], percent=10.0)
    theirs = standing("script", 3.0, tumor_pixels=[0], p_folds=[], percent=None)
    broken = Standing("broken", problem="It is not installed.")
    agreements = {each.name: agreement(each.found, ours.found) for each in (ours, theirs)}
    agree = {name: found.within(Tolerance()) for name, found in agreements.items()}
    comparison = Comparison("Scoring", 4, [ours, theirs, broken], ["her2d"], agreements, agree)
    text = markdown([comparison], "python -m tools.peers", "Bundle: random 1.")
    assert "| her2d | 2 (2 to 2) | 500 | 1 (1 to 1) | 500 |  | 0 | 0 | yes |" in text
    assert "| script | 3 (3 to 3) | 750 | 1.5 (1.5 to 1.5) | 500 |" in text
    assert "1 other tumour tiles |  | NO |" in text
    assert "Not measured: broken. It is not installed." in text
    assert "`python -m tools.peers`" in text


def test_the_table_says_which_level_each_reader_chose():
    both = [standing("her2d", 2.0, level="1 (5120 x 5120)"), standing("openslide", 3.0, level="0")]
    text = markdown([Comparison("Reading", 16, both, ["her2d"], {}, {})], "", "")
    assert "| peak, MiB | level |" in text
    assert "| 500 | 1 (5120 x 5120) |" in text


@pytest.mark.parametrize(
    ("changed", "agrees"),
    [
        ({}, True),
        ({"p_folds": [[0.54] * 5]}, True),
        ({"p_folds": [[0.56] * 5]}, False),
        ({"strong": [False]}, False),
        ({"percent": 99.0}, False),
        ({"tumor_pixels": [10]}, False),
    ],
)
def test_results_agree_within_the_bundles_tolerance(changed, agrees):
    reference = {
        "tumor_pixels": [200_000],
        "p_folds": [[0.5] * 5],
        "strong": [True],
        "percent": 100.0,
    }
    assert agreement({**reference, **changed}, reference).within(Tolerance()) is agrees


def test_masks_are_compared_pixel_by_pixel(tmp_path):
    mask = np.zeros((2, 512, 512), np.bool_)
    np.save(tmp_path / "reference.npy", np.packbits(mask))
    mask[0, :256] = True
    np.save(tmp_path / "other.npy", np.packbits(mask))
    nothing = {"p_folds": []}
    found = agreement(nothing, nothing, (tmp_path / "other.npy", tmp_path / "reference.npy"))
    assert found.mask == 0.75
    assert not found.within(Tolerance())


@pytest.mark.slow
def test_without_the_peers_environment_the_command_says_how_to_make_it(tmp_path):
    command = [sys.executable, "-m", "tools.peers", "--environment", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{tmp_path} does not exist. Make it with: make .venv-peers/.installed" in " ".join(
        done.stderr.split()
    )


def test_the_peers_are_pinned_to_exact_versions():
    folder = Path(__file__).parents[3] / "tools" / "peers"
    for name in ("requirements.txt", "requirements-wsinfer.txt"):
        lines = (folder / name).read_text().splitlines()
        packages = [line for line in lines if not line.startswith("#")]
        assert packages
        assert all(line.count("==") == 1 for line in packages), json.dumps(packages)
