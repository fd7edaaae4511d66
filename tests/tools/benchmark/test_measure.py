"""A benchmark of a bundle that takes little time, on real engines and a real slide."""

from dataclasses import replace

import pynvml
import pytest
from nvml import pynvml as double

from her2d.inference.engine import EngineError
from her2d.pipeline.bottleneck import STAGES
from her2d.pipeline.rules import Limits, rules_of
from her2d.simulator.tissue import tissue_tiles
from her2d.slides.grid import Tile
from her2d.slides.reader import open_slide
from tools.benchmark.configurations import CONFIGURATIONS, Configuration, refuse_small_plan
from tools.benchmark.measure import Options, Subject, measure
from tools.benchmark.slide import write_tissue_slide
from tools.benchmark.utilisation import watched

pytestmark = pytest.mark.slow

FEW = Options(
    batches=(1, 3),
    repeats=2,
    reading_s=0.0,
    pipeline_s=0.0,
    limits=Limits(batch_wait_s=0.01),
    threads=1,
)


def configurations(*names: str) -> tuple[Configuration, ...]:
    return tuple(each for each in CONFIGURATIONS if each.name in names)


@pytest.fixture
def subject(color_bundle, write_slide):
    return Subject(color_bundle, rules_of(color_bundle), write_slide(["Sws", ".ht"]), "letters")


def test_each_back_end_is_measured_at_each_batch_size(subject):
    report = measure(subject, FEW, configurations=configurations("onnxruntime fp32"))
    assert [(row.name, row.recorded, row.batch) for row in report.rows] == [
        ("onnxruntime fp32", "onnxruntime", 1),
        ("onnxruntime fp32", "onnxruntime", 3),
    ]
    for row in report.rows:
        for rate in (row.segmenter, row.classifiers, row.pipeline):
            assert 0 < rate.tiles_per_s.least <= rate.tiles_per_s.median <= rate.tiles_per_s.most
        assert set(row.stages) == set(STAGES)
        assert row.bottleneck in STAGES
        assert row.times_first.median == 1.0
        assert row.pipeline_of_engines.least > 0
        assert row.utilisation is not None
    assert (report.tissue_tiles, report.tumor_tiles) == (5, 3)
    assert report.decoding.tiles_per_s.least > 0


def test_what_cannot_run_is_skipped_with_its_reason(subject):
    report = measure(
        subject, FEW, configurations=configurations("onnxruntime fp32", "onnxruntime int8")
    )
    assert {(each.name, each.batch) for each in report.skipped} == {
        ("onnxruntime int8", 1),
        ("onnxruntime int8", 3),
    }
    assert all("No plan was compiled" in each.reason for each in report.skipped)


def test_every_configuration_is_a_row_or_has_a_reason(subject):
    report = measure(subject, replace(FEW, batches=(2,), repeats=1))
    reported = [row.name for row in report.rows] + [each.name for each in report.skipped]
    assert sorted(reported) == sorted(each.name for each in CONFIGURATIONS)
    assert all(each.reason for each in report.skipped)
    peaks = {peak.device: peak for peak in report.peaks}
    assert peaks["cpu"].flops_per_s is not None


def test_where_nothing_runs_the_error_gives_each_reason_once(subject):
    starts = r"No back end works here\. onnxruntime int8: No plan"
    with pytest.raises(EngineError, match=starts) as error:
        measure(subject, FEW, configurations=configurations("onnxruntime int8"))
    assert str(error.value).count("onnxruntime int8:") == 1


def test_a_slide_without_tissue_is_refused(color_bundle, write_slide):
    bare = Subject(color_bundle, rules_of(color_bundle), write_slide([".."]), "bare")
    with pytest.raises(EngineError, match="contains no tissue"):
        measure(bare, FEW)


def test_a_plan_for_smaller_batches_is_refused_with_the_command_for_a_larger_one(color_bundle):
    from her2d.inference.plans import (
        CompiledPart,
        PlanFiles,
        Profile,
        Sidecar,
    )

    part = CompiledPart(
        source_sha256="0" * 64, plan_sha256="0" * 64, profile=Profile(best=4, most=4)
    )
    sidecar = Sidecar(
        backend="tensorrt",
        precision="fp16",
        library_version="1",
        gpu="none",
        compute_capability="none",
        segmenter=part,
        classifiers=part,
        parity=None,
        compiled_at="2026-01-01T00:00:00+00:00",
        software_version="0",
    )
    files = PlanFiles(color_bundle, "tensorrt", "fp16")
    refuse_small_plan(files, sidecar, 4)
    with pytest.raises(
        EngineError, match=r"accepts 4 tiles at once.*SEGMENTER_BATCH=8.*her2d comp"
    ):
        refuse_small_plan(files, sidecar, 8)


def test_the_tissue_slide_is_a_readable_scan_without_background(tmp_path):
    write_tissue_slide(tmp_path / "tissue.tif", tissue_tiles(2), rows=2)
    with open_slide(tmp_path / "tissue.tif") as slide:
        assert (slide.grid.columns, slide.grid.rows) == (8, 2)
        assert all(isinstance(tile, Tile) for tile in slide.tiles())


def test_a_gpus_utilisation_is_that_of_the_busiest(monkeypatch):
    """NVML is replaced by a test double with two cards: one 35 % busy, one that does not report."""
    names = ("Init", "DeviceGetCount", "DeviceGetHandleByIndex", "DeviceGetMemoryInfo")
    calls = [f"nvml{name}" for name in (*names, "DeviceGetUtilizationRates")]
    for name in (*calls, "NVMLError", "NVMLError_NotSupported"):
        monkeypatch.setattr(pynvml, name, getattr(double, name))
    with watched("cuda") as used:
        pass
    assert used.share == 0.35


def test_a_gpus_utilisation_is_unknown_without_a_driver(monkeypatch):
    def no_driver() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    with watched("cuda") as used:
        pass
    assert used.share is None
