"""`her2d scan`."""

import json
import os
import random
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from deep_folders import nested_folders
from dicom_slides import write_dicom_slide
from incomplete_files import leave_out, overwrite_blocks
from real_slides import CMU, write_without_magnification
from stained_tiles import TUMOR_STRONG, stained

from her2d.cli.slide_files import slide_files
from her2d.db.connection import open_readonly
from her2d.inference.engine import EngineError
from her2d.inference.host_tiles import HostEngine
from her2d.processing.processor import SlideProcessor
from her2d.processing.recorder import Recorder
from her2d.results.listing import list_results
from her2d.simulator.motic import write_ihc_slide
from her2d.simulator.plan import plan_slide


def test_results_are_printed_and_recorded(her2d, laboratory, write_slide):
    path = write_slide(["Sw.", "www"], "biopsy.tif")
    code, out, _ = her2d("scan", path)
    assert code == 0
    assert "biopsy.tif" in out
    assert "positive" in out
    (result,) = list_results(open_readonly(laboratory.database))
    assert result.her2_status == "positive"
    assert result.high_expression_percent == pytest.approx(20.0)
    assert (result.tiles_total, result.tiles_tissue, result.tiles_tumor) == (6, 5, 5)
    assert Path(result.heatmap_path).is_file()


def test_a_folder_stands_for_every_slide_in_it(laboratory, write_slide, tmp_path):
    folder = tmp_path / "slides"
    (folder / "deeper").mkdir(parents=True)
    write_slide(["S"], "a.tif", folder=folder)
    write_slide(["w"], "b.tif", folder=folder / "deeper")
    (folder / "notes.txt").write_text("no slide")
    rows = laboratory.json("scan", folder)
    assert {row["file_name"]: row["her2_status"] for row in rows} == {
        "a.tif": "positive",
        "b.tif": "negative",
    }


def test_one_bad_file_is_reported_and_recorded_and_the_others_are_done(
    her2d, laboratory, write_slide, tmp_path
):
    good = write_slide(["S"], "good.tif")
    bad = tmp_path / "bad.tif"
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((20, 20, 3), np.uint8))
    (tmp_path / "picture.png").rename(bad)
    code, out, err = her2d("scan", bad, good)
    assert code == 1
    assert "good.tif" in out
    assert err.count("her2d: bad.tif ") == 1
    assert "Traceback" not in err
    (job,) = laboratory.json("queue", "ls", "--state", "quarantined")
    assert job["path"] == str(bad)
    assert job["reason"] in err


def test_the_focal_plane_that_was_read_is_told_and_kept(her2d, laboratory, write_slide, tmp_path):
    sharp = tifffile.imread(write_slide(["Sw.", "www"], "flat.tif"))
    sharp[::16] = sharp[::16] // 2  # lines, which lose contrast out of focus
    planes = [cv2.GaussianBlur(sharp, (0, 0), 3), cv2.GaussianBlur(sharp, (0, 0), 2), sharp]
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path) as tiff:
        for plane in planes:
            tiff.write(
                plane,
                tile=(512, 512),
                compression="deflate",
                photometric="rgb",
                description="AppMag = 4",
                metadata=None,
            )
    code, out, _ = her2d("scan", path)
    assert code == 0
    assert "focal plane 3 of 3" in " ".join(out.split())
    (result,) = laboratory.json("results")
    assert result["focal_plane"] == "3 of 3"
    laboratory.run("export", "stack", "--format", "html", "-o", tmp_path / "report.html")
    assert "3 of 3" in (tmp_path / "report.html").read_text()


def test_a_run_records_that_jpeg_was_decoded_at_half_size(her2d, laboratory, write_slide, tmp_path):
    small = tifffile.imread(write_slide(["Sw.", "www"], "flat.tif"))[:100, :140]
    path = tmp_path / "forty.tif"
    tifffile.imwrite(
        path,
        small.repeat(10, axis=0).repeat(10, axis=1),
        tile=(256, 256),
        compression="jpeg",
        photometric="rgb",
        description="AppMag = 40",
        metadata=None,
    )
    assert her2d("scan", path)[0] == 0
    (result,) = laboratory.json("results")
    assert result["decoding"] == "JPEG at half size"
    laboratory.run("export", "forty", "--format", "html", "-o", tmp_path / "report.html")
    assert "JPEG at half size" in (tmp_path / "report.html").read_text()


def test_a_picture_that_was_not_read_is_told_and_kept(her2d, laboratory, write_slide, tmp_path):
    scan = tifffile.imread(write_slide(["Sw.", "www"], "flat.tif"))
    path = tmp_path / "unnamed.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiled = {"tile": (512, 512), "compression": "deflate", "photometric": "rgb"}
        tiff.write(scan, **tiled, description="AppMag = 4", metadata=None)
        macro = np.full((300, 420, 3), 180, np.uint8)
        tiff.write(macro, rowsperstrip=16, photometric="rgb", metadata=None)
    said = "1 further picture of 420 x 300 was not read"
    code, out, _ = her2d("scan", path)
    assert code == 0
    assert said in " ".join(out.split())
    (result,) = laboratory.json("results")
    assert result["unread_pictures"] == said
    assert laboratory.json("show", "unnamed")["unread_pictures"] == said
    laboratory.run("export", "unnamed", "--format", "html", "-o", tmp_path / "report.html")
    assert said in (tmp_path / "report.html").read_text()


def test_several_scanned_areas_are_refused_with_that_reason(
    her2d, laboratory, write_slide, tmp_path
):
    path = tmp_path / "areas.tif"
    with tifffile.TiffWriter(path) as tiff:
        for rows in (["Sw.", "www"], ["s..", "SSw"]):
            area = tifffile.imread(write_slide(rows, "one.tif"))
            tiff.write(area, tile=(512, 512), photometric="rgb", metadata=None)
    code, _, err = her2d("scan", path)
    assert code == 1
    assert err.startswith("her2d: areas.tif holds 2 scanned areas, and the HER2 status is that of")
    (job,) = laboratory.json("queue", "ls", "--state", "quarantined")
    assert job["reason"] in err


def test_a_path_that_is_not_there_is_one_clear_line(her2d, tmp_path):
    code, _, err = her2d("scan", tmp_path / "absent.tif")
    assert code == 1
    assert err.strip() == f"her2d: There is no file or folder {tmp_path / 'absent.tif'}."


def test_a_name_that_is_not_utf_8_is_refused_and_recorded_and_the_others_are_done(
    her2d, laboratory, write_slide, tmp_path
):
    good = write_slide(["S"], "good.tif")
    bad = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.tif"))
    bad.write_bytes(good.read_bytes() + b"another")
    code, out, err = her2d("scan", tmp_path)
    assert code == 1
    assert "good.tif" in out
    reason = "The file's name is not valid UTF-8: rename it and it is processed."
    assert err == rf"her2d: bad\xff.tif: {reason}" + "\n"
    (job,) = laboratory.json("queue", "ls", "--state", "quarantined")
    assert job["reason"] == reason
    rows = {row.get("error"): row for row in laboratory.json("scan", bad, good)}
    assert rows[rf"bad\xff.tif: {reason}"]["path"] == rf"{tmp_path}/bad\xff.tif"
    assert rows[None]["file_name"] == "good.tif"
    shown = her2d("show", os.fsdecode(b"bad\xff.tif"))
    assert shown[:2] == (1, "")
    assert reason in shown[2]


def test_a_folder_whose_name_is_not_utf_8_is_said_to_be_the_cause(her2d, write_slide, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    write_slide(["S"], "good.tif").rename(folder / "good.tif")
    code, _, err = her2d("scan", folder)
    assert code == 1
    assert err == (
        "her2d: good.tif: The name of a folder above the file is not valid UTF-8:"
        " rename that folder.\n"
    )


def test_a_pipe_a_socket_and_what_is_absent_are_one_sentence_each(her2d, write_slide, tmp_path):
    good = write_slide(["S"], "good.tif")
    os.mkfifo(tmp_path / "pipe.tif")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s.tif"))
        (tmp_path / "link.tif").symlink_to(tmp_path / "gone.tif")
        code, out, err = her2d("scan", tmp_path, tmp_path / "absent.tif", good / "below.tif")
    assert code == 1
    assert "good.tif" in out
    assert sorted(err.splitlines()) == sorted(
        [
            f"her2d: {tmp_path}/pipe.tif is a pipe, not a file.",
            f"her2d: {tmp_path}/s.tif is a socket, not a file.",
            f"her2d: {tmp_path}/link.tif cannot be read: No such file or directory.",
            f"her2d: There is no file or folder {tmp_path}/absent.tif.",
            f"her2d: There is no file or folder {good}/below.tif.",
        ]
    )


def test_a_folder_without_slides_does_not_keep_the_others_back(her2d, write_slide, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = her2d("scan", tmp_path / "empty", write_slide(["S"], "good.tif"))
    assert code == 1
    assert "good.tif" in out
    assert err == f"her2d: There are no slides in {tmp_path}/empty.\n"


WITHOUT_RIGHTS = "-dac_override,-dac_read_search"


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_what_may_not_be_read_is_one_sentence_each_and_the_others_are_done(
    laboratory, write_slide, tmp_path
):
    """In a process of its own: root may read everything until it gives that right up."""
    folder = tmp_path / "slides"
    (folder / "closed").mkdir(parents=True)
    write_slide(["S"], "good.tif", folder=folder)
    write_slide(["w"], "within.tif", folder=folder / "closed")
    write_slide(["wS"], "unreadable.tif", folder=folder).chmod(0)
    (folder / "closed").chmod(0)
    drop = [f"--bounding-set={WITHOUT_RIGHTS}", f"--inh-caps={WITHOUT_RIGHTS}"]
    here = Path(__file__).parents[2]
    paths = [folder, folder / "closed" / "within.tif"]
    config = ["--config", laboratory.folder / "config.toml"]
    command = [sys.executable, "-m", "her2d", "scan", *paths, *config]
    found = subprocess.run(
        ["setpriv", *(drop if os.getuid() == 0 else ()), *command],
        env={**os.environ, "PYTHONPATH": str(here)},
        capture_output=True,
        text=True,
        check=False,
    )
    (folder / "closed").chmod(0o755)
    assert found.returncode == 1
    assert "good.tif" in found.stdout
    *first, last = found.stderr.splitlines()
    assert first == [
        f"her2d: {folder}/closed cannot be read: Permission denied.",
        f"her2d: {folder}/closed/within.tif cannot be read: Permission denied.",
    ]
    assert last.startswith("her2d: unreadable.tif cannot be read: Permission denied. User ")


def test_a_slide_in_folders_deeper_than_pythons_stack_is_found(tmp_path):
    with nested_folders(tmp_path, "a.tif"):
        (found,) = slide_files([tmp_path], (".tif",))
    assert found.name == "a.tif"


def test_a_slide_that_changes_while_it_is_read_is_one_sentence(her2d, write_slide, monkeypatch):
    slide = write_slide(["S"], "a.tif")
    score = SlideProcessor.hash_and_score

    def changed(self, scan, *args, **options):
        os.utime(scan.path, ns=(1, 1))
        return score(self, scan, *args, **options)

    monkeypatch.setattr(SlideProcessor, "hash_and_score", changed)
    assert her2d("scan", slide)[::2] == (1, "her2d: a.tif changed while it was read.\n")


def test_a_shortage_of_the_process_is_one_sentence(her2d, write_slide, monkeypatch):
    def short(*_, **__):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(SlideProcessor, "hash_and_score", short)
    code, _, error = her2d("scan", write_slide(["S"], "a.tif"))
    assert (code, error) == (
        1,
        "her2d: a.tif: her2d lacks threads or processes. The file is not the cause.\n",
    )


@pytest.mark.parametrize("network", ["segment", "classify"])
@pytest.mark.parametrize("names", [["a.tif"], ["a.tif", "b.tif"]])
def test_an_engine_that_fails_is_one_sentence_and_no_slide_is_refused(
    her2d, laboratory, write_slide, monkeypatch, network, names
):
    def fails(*_):
        raise EngineError("ONNX Runtime failed on a batch of 1 tiles: no memory")

    monkeypatch.setattr(HostEngine, network, fails)
    code, out, error = her2d("scan", *[write_slide(["S"], name) for name in names])
    assert (code, out) == (1, "")
    (line,) = error.splitlines()
    assert line.startswith("her2d: ")
    assert "ONNX Runtime failed on a batch of 1 tiles: no memory" in line
    with closing(open_readonly(laboratory.database)) as db:
        assert [db[table].count for table in ("runs", "jobs")] == [0, 0]


def test_a_locked_database_is_one_sentence(her2d, write_slide, monkeypatch):
    def locked(*_, **__):
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(Recorder, "record", locked)
    assert her2d("scan", write_slide(["S"], "a.tif"))[::2] == (
        1,
        "her2d: a.tif has no result, because the database cannot be changed: database is locked.\n",
    )


def test_an_unexpected_error_is_raised_after_the_other_outcomes(
    her2d, write_slide, monkeypatch, capfd
):
    good, bad = write_slide(["S"], "good.tif"), write_slide(["w"], "bad.tif")
    score = SlideProcessor.hash_and_score

    def fail(self, scan, *args, **options):
        if scan.path.name == "bad.tif":
            raise RuntimeError("a defect")
        return score(self, scan, *args, **options)

    monkeypatch.setattr(SlideProcessor, "hash_and_score", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        her2d("scan", bad, good)
    assert "good.tif" in capfd.readouterr().out


HOSTILE = "\x1b[31m\u202ered\x9b0m.tif"


def test_no_name_steers_the_terminal(her2d, write_slide, tmp_path):
    path = write_slide(["S"]).rename(tmp_path / HOSTILE)
    shown = r"\x1b[31m\u202ered\x9b0m.tif"
    code, out, err = her2d("scan", path, path.with_name(f"absent{HOSTILE}"))
    assert code == 1
    assert shown in out
    assert f"absent{shown}" in err
    for command in (("results",), ("show", "1"), ("show", path.name), ("heatmap", "1")):
        printed = her2d(*command)[1]
        assert shown in printed or command[0] == "heatmap"
        assert not set("\x1b\u202e\x9b") & set(printed), command
    assert shown in her2d("show", f"no{HOSTILE}")[2]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_a_file_cut_off_anywhere_is_refused_with_a_reason(her2d, laboratory, write_slide, share):
    path = write_slide(["Sw", "wS"])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    code, _, err = her2d("scan", path)
    if code == 0:  # What was cut off was padding or an unread tag: then nothing may be missing.
        (row,) = laboratory.json("results")
        assert row["tiles_unreadable"] > 0
        return
    assert code == 1
    assert err.startswith("her2d: slide.tif ")
    assert "Traceback" not in err
    assert len(laboratory.json("queue", "ls", "--state", "quarantined")) == 1


@pytest.mark.parametrize("seed", range(12))
def test_a_hundred_flipped_bytes_give_a_result_or_a_reason(her2d, laboratory, write_slide, seed):
    path = write_slide(["Sw", "wS"])
    data = bytearray(path.read_bytes())
    chance = random.Random(seed)
    for _ in range(100):
        data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    path.write_bytes(data)
    code, _, err = her2d("scan", path)
    assert code in (0, 1)
    assert "Traceback" not in err
    if code == 0:
        assert len(laboratory.json("results")) == 1
    else:
        assert len(laboratory.json("queue", "ls", "--state", "quarantined")) == 1


@pytest.mark.slow
def test_a_real_slide_without_magnification_is_refused_until_one_is_assumed(
    her2d, monkeypatch, tmp_path
):
    path = tmp_path / "frozen.svs"
    write_without_magnification(path)
    code, _, err = her2d("scan", path)
    assert code == 1
    assert "no magnification" in err
    monkeypatch.setenv("HER2D_INTAKE__ASSUME_MAGNIFICATION", "20")
    code, out, _ = her2d("scan", path)
    assert code == 0
    assert "frozen" in out


def test_a_real_aperio_slide_gets_a_result(laboratory):
    (row,) = laboratory.json("scan", CMU)
    assert row["tiles_total"] == 2
    assert row["tiles_unreadable"] == 0


def test_a_slide_of_which_no_tile_can_be_read_fails_with_the_cause_wherever_it_is_named(
    her2d, laboratory, write_slide, tmp_path
):
    path = write_slide(["Sw.", "www"], "unreadable.tif")
    overwrite_blocks(path, range(6))
    cause = "none of its 6 tiles could be read (block 0,0 cannot be decoded:"
    code, out, err = her2d("scan", path)
    assert (code, out) == (1, "")
    assert err.startswith(f"her2d: unreadable.tif has no result: {cause}")
    assert err.count("\n") == 1
    assert laboratory.json("results") == []
    (job,) = laboratory.json("queue", "ls", "--state", "quarantined")
    assert cause in job["reason"]
    for command in (
        ("show", "unreadable.tif"),
        ("export", "unreadable", "--format", "html", "-o", tmp_path / "report.html"),
    ):
        code, _, err = her2d(*command)
        assert code == 1
        assert cause in err
    code, out, _ = her2d("show", "unreadable.tif", "--json")
    assert code == 1
    assert cause in json.loads(out)["error"]
    _, out, _ = her2d("scan", path, "--json")
    assert cause in json.loads(out)[0]["error"]


@pytest.mark.parametrize(
    ("rows", "unreadable", "why"),
    [
        (["www", "www"], 1, "could change the call"),
        (["sss", "sss"], 1, "could change the call"),
        (["S" + "w" * 10], 1, "could change the call"),
        (["SSS", "www"], 2, "33 % of what may be tissue"),
        (["SSSSS", "....."], 5, "50 % of what may be tissue"),
        (["SSS", "www"], 6, "none of its 6 tiles could be read"),
    ],
)
def test_a_slide_of_which_too_few_tiles_can_be_read_is_not_called(
    her2d, laboratory, write_slide, rows, unreadable, why
):
    path = write_slide(rows)
    tiles = sum(map(len, rows))
    overwrite_blocks(path, range(tiles - unreadable, tiles))
    code, _, err = her2d("scan", path)
    assert code == 1
    assert why in err
    assert laboratory.json("results") == []


@pytest.mark.parametrize(
    ("rows", "unreadable", "status"),
    [
        (["SSS", "www"], 1, "positive"),
        (["S" + "w" * 4], 1, "positive"),
        (["w" * 40], 3, "negative"),
    ],
)
def test_a_slide_is_called_if_no_unreadable_tile_could_change_the_call(
    her2d, laboratory, write_slide, rows, unreadable, status
):
    path = write_slide(rows)
    tiles = sum(map(len, rows))
    overwrite_blocks(path, range(tiles - unreadable, tiles))
    code, *_ = her2d("scan", path)
    (row,) = laboratory.json("results")
    assert (code, row["her2_status"], row["tiles_unreadable"]) == (0, status, unreadable)
    assert " cannot be decoded" in row["unreadable_reason"]


def test_the_cause_of_a_few_unreadable_tiles_is_named_wherever_the_result_is(
    her2d, write_slide, tmp_path
):
    path = write_slide(["SSS", "SSS"])
    overwrite_blocks(path, [4])
    cause = "block 1,1 cannot be decoded"
    _, out, _ = her2d("scan", path)
    assert "1 tile unreadable" in " ".join(out.split())
    for command in (("show", "slide"), ("show", "slide", "--json"), ("results", "--json")):
        assert cause in " ".join(her2d(*command)[1].split())
    her2d("export", "slide", "--format", "html", "-o", tmp_path / "report.html")
    assert cause in (tmp_path / "report.html").read_text()


def test_glass_that_is_not_stored_changes_no_result(her2d, laboratory, write_slide):
    whole = write_slide(["www", "w.."], "whole.tif")
    sparse = write_slide(["www", "w.."], "sparse.tif")
    leave_out(sparse, [4, 5])
    assert her2d("scan", whole, sparse)[0] == 0
    one, other = laboratory.json("results")
    told = ("her2_status", "reason", "tumor_pixels", "tiles_tissue", "tiles_unreadable")
    assert [one[name] for name in told] == [other[name] for name in told]
    assert one["her2_status"] == "negative"


def test_a_dicom_slide_is_scanned_by_its_folder_and_found_below_others(laboratory, tmp_path):
    tissue = stained(TUMOR_STRONG, 1024, 1024)
    folder = write_dicom_slide(
        tmp_path / "patients" / "1", [tissue], mpp=2.5, magnification=4, barcode="D-7"
    )
    (row,) = laboratory.json("scan", folder)
    assert (row["file_name"], row["her2_status"], row["barcode"]) == ("1", "positive", "D-7")
    assert row["tiles_total"] == 4
    (again,) = laboratory.json("scan", tmp_path / "patients")
    assert again["slide_id"] == row["slide_id"]


def test_a_slide_beside_the_files_of_a_dicom_slide_is_found_too(write_slide, tmp_path):
    folder = write_dicom_slide(tmp_path / "1", [np.full((600, 600, 3), 200, np.uint8)])
    beside = write_slide(["S"], "beside.tif", folder=folder)
    assert list(slide_files([folder], (".tif",))) == [folder, beside]


def test_one_file_of_a_dicom_slide_is_refused_with_what_to_name(her2d, tmp_path):
    folder = write_dicom_slide(tmp_path / "1", [np.full((600, 600, 3), 200, np.uint8)])
    code, _, err = her2d("scan", folder / "slide-0.dcm")
    assert code == 1
    assert err == (
        "her2d: slide-0.dcm is one file of a DICOM slide; name the folder that holds all of them\n"
    )


@pytest.mark.parametrize("status", ["positive", pytest.param("negative", marks=pytest.mark.slow)])
def test_an_ihc_slide_gets_no_call_from_the_shipped_bundle(laboratory, tmp_path, status):
    shipped = Path(__file__).parents[2] / "engines" / "her2net-demo"
    config = laboratory.folder / "config.toml"
    config.write_text(re.sub(r'path = ".*"', f'path = "{shipped}"', config.read_text()))
    plan = plan_slide("ihc", 90210, her2_status=status, width=1536, height=1024)
    write_ihc_slide(plan, tmp_path / "ihc.tif")
    (row,) = laboratory.json("scan", tmp_path / "ihc.tif")
    assert (row["her2_status"], row["reason_code"]) == ("indeterminate", "not-he")
    assert row["reason"].startswith("The slide is not stained with H&E: ")
    assert (row["high_expression_percent"], row["ci_low"], row["ci_high"]) == (None, None, None)
    assert (row["brown_percent"] > 15) == (status == "positive")
