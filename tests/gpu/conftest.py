"""Fixtures for tests that need a CUDA device; without one they skip with the driver's reason.

What is built once is imported where it is built: torch, MONAI and SciPy take ten seconds, and each
run that `test_simulated_gpu` starts would pay them again.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from built_once import built_once, run_folder

from her2d.bundle.loading import Bundle, load_bundle
from her2d.inference.compiler.compile import CompileOrder, TilesToTry, compile_bundle
from her2d.inference.cuda_driver import Gpu, NoGpuError, find_gpu
from her2d.inference.plans import Profile

SHIPPED = Path(__file__).parents[2] / "engines" / "her2net-demo"


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    try:
        return find_gpu()
    except NoGpuError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def is_simulated(gpu) -> bool:
    """Whether the driver is the simulated one."""
    return "SIMULATED_GPU_REPORT" in os.environ


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """Where bundles and plans are built once: for all runs of `test_simulated_gpu`, or for this."""
    named = os.environ.get("SIMULATED_GPU_SHARED")
    return Path(named) if named else run_folder(tmp_path_factory)


@pytest.fixture(scope="session")
def slim_bundle(gpu, shared_folder) -> Bundle:
    def build(folder: Path) -> None:
        from inference_bundles import write_bundle

        write_bundle(
            folder / "bundle",
            segmenter_width=1 / 8,
            classifier="resnet18",
            classifier_width=1 / 8,
        )

    return load_bundle(built_once(shared_folder / "slim-for-gpu", build) / "bundle")


@pytest.fixture(scope="session")
def tissue(gpu, shared_folder):
    def build(folder: Path) -> None:
        from her2d.simulator.plan import plan_slide
        from her2d.simulator.render import render_region

        plan = plan_slide("tissue", 5, her2_status="positive", width=4096, height=4096)
        places = [(1024 + 512 * (i % 3), 1024 + 512 * (i // 3)) for i in range(8)]
        tiles = np.stack([render_region(plan, x, y, 512, 512).rgb for x, y in places])
        np.save(folder / "tiles.npy", tiles)

    return np.load(built_once(shared_folder / "tissue-for-gpu", build) / "tiles.npy")


@pytest.fixture(scope="session", params=["tensorrt", "tensorrt_rtx"])
def backend(request, gpu) -> str:
    """A TensorRT back end that is installed and supports this card."""
    pytest.importorskip(request.param)
    pytest.importorskip("pycuda.driver")
    if request.param == "tensorrt_rtx" and gpu.compute_capability.startswith("9."):
        pytest.skip(f"TensorRT for RTX does not support {gpu.name} ({gpu.compute_capability})")
    return request.param


def with_a_plan(directory: Path, backend: str, tissue, gpu: Gpu, folder: Path) -> Bundle:
    """Copy a bundle to `folder` and compile a verified fp16 plan for batches of up to four."""

    def build(folder: Path) -> None:
        shutil.copytree(directory, folder, dirs_exist_ok=True)
        profile = Profile(best=4, most=4)
        order = CompileOrder(backend, "fp16", profile, profile)
        compiled = compile_bundle(load_bundle(folder), order, TilesToTry(tissue[::2], tissue[1::2]))
        assert compiled.sidecar.verified_on == gpu.name

    return load_bundle(built_once(folder, build))


@pytest.fixture(scope="session")
def compiled(backend, gpu, slim_bundle, tissue, shared_folder) -> Bundle:
    folder = shared_folder / f"compiled-for-{backend}"
    return with_a_plan(slim_bundle.directory, backend, tissue, gpu, folder)


@pytest.fixture(scope="session")
def shipped(backend, gpu, tissue, shared_folder) -> Bundle:
    """The shipped bundle, compiled."""
    folder = shared_folder / f"shipped-for-{backend}"
    return with_a_plan(SHIPPED, backend, tissue, gpu, folder)
