"""How much of the pipeline is the two networks."""

import pytest

from her2d.pipeline.bottleneck import Bottleneck
from tools.benchmark.measurement import Readings, Repeat, Speed
from tools.benchmark.pipeline_run import PipelineRun


def repeat(cpu_s: float) -> Repeat:
    """Return a repeat whose networks need 80 and 40 ms of processor time for a tile on average."""
    before = Readings(None, Speed(10.0, 0.070), Speed(20.0, 0.035))
    after = Readings(None, Speed(10.0, 0.090), Speed(20.0, 0.045))
    run = PipelineRun(15.0, cpu_s, 100, 50, Bottleneck("segment", {}), None)
    return Repeat(before, after, run)


def test_on_a_cpu_it_is_the_networks_processor_time_in_that_of_the_pipeline():
    assert repeat(cpu_s=10.0).share_of_cpu == pytest.approx(1.0)
    assert repeat(cpu_s=12.5).share_of_cpu == pytest.approx(0.8)


def test_on_a_gpu_it_is_the_pipelines_rate_against_that_of_the_networks_in_turn():
    # 100 tiles in 10 s, and 50 of them in 2.5 s more; the pipeline took 15 s.
    assert repeat(cpu_s=1.0).share_of_time == pytest.approx(12.5 / 15)
