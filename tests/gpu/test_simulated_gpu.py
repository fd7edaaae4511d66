"""Everything marked `gpu` on a GPU that is played, with PyCUDA as it is.

What it shows: that her2d's use of PyCUDA and of the driver's calls, its threads, contexts and
streams are right, in engines and in the daemon. What it cannot show is anything about TensorRT's
kernels or a real device's speed: `make gpu` is for those.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from simulated_gpu.account import accounts, left_or_wrong
from simulated_gpu.build import CannotBuildError, build, toolkit

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
DOUBLE = HERE.parent / "doubles" / "simulated_gpu"
PATIENCE_S = 540  # less than what a test that hangs is given in all


@pytest.fixture(scope="session")
def simulated_gpu(request, tmp_path_factory) -> Path:
    """Where it was built: kept by pytest's cache until its sources change."""
    sources = (DOUBLE / "libcuda.c").read_bytes() + (DOUBLE / "build.py").read_bytes()
    name = f"simulated-gpu-{hashlib.sha256(sources + sys.version.encode()).hexdigest()[:12]}"
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir(name) if cache is not None else tmp_path_factory.mktemp(name)
    built = folder / "built"
    if not built.is_dir():
        fresh = folder / f"building-{os.getpid()}"
        try:
            build(fresh)
            with contextlib.suppress(OSError):  # another run may have been faster
                fresh.rename(built)
        except CannotBuildError as error:
            pytest.skip(str(error))
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return built


@pytest.mark.parametrize("file", sorted(path.name for path in HERE.glob("test_gpu_*.py")))
def test_what_is_for_a_gpu_passes_on_the_simulated_one(simulated_gpu, tmp_path, file):
    packages = [simulated_gpu / "site", DOUBLE / "packages"]
    report = tmp_path / "report.jsonl"
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider"]
    hanging = ["-o", f"faulthandler_timeout={PATIENCE_S // 2}"]
    done = subprocess.run(
        [*command, *hanging, "--basetemp", str(tmp_path / "inside"), str(HERE / file)],
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(toolkit() / "bin"), os.environ["PATH"]]),
            "LD_LIBRARY_PATH": str(simulated_gpu / "lib"),
            "PYTHONPATH": os.pathsep.join(str(folder) for folder in packages),
            "SIMULATED_GPU_REPORT": str(report),
        },
        cwd=HERE.parents[1],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    for account in accounts(report):
        assert left_or_wrong(account) == {}
