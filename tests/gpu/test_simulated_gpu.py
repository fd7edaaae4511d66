"""Everything marked `gpu` on a GPU that is played, with PyCUDA as it is.

What it shows: that her2d's use of PyCUDA and of the driver's calls, its threads, contexts and
streams are right, in engines and in the daemon. What it cannot show is anything about TensorRT's
kernels or a real device's speed: `make gpu` is for those.

Each part is run by a separate pytest, whose environment has the simulated driver.
"""

import ast
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from built_once import built_once, run_folder
from simulated_gpu.account import accounts, left_or_wrong
from simulated_gpu.build import CannotBuildError, build, toolkit

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
DOUBLE = HERE.parent / "doubles" / "simulated_gpu"
PATIENCE_S = 2000  # less than what a test that hangs is given in all
TAKES_LONG = {"site", "compiled"}  # fixtures; a test that has one is run by itself
REAL_ONLY = {"torch_site"}  # torch brings kernels of its own, which no simulated driver can run


def parts() -> list[list[str]]:
    """What each item below runs: one test function that takes long, or a file's others together."""
    found: list[list[str]] = []
    for path in sorted(HERE.glob("test_gpu_*.py")):
        others: list[str] = []
        for function in ast.parse(path.read_text()).body:
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                item = f"{path.name}::{function.name}"
                fixtures = {argument.arg for argument in function.args.args}
                if fixtures & REAL_ONLY:
                    continue
                if TAKES_LONG.isdisjoint(fixtures):
                    others.append(item)
                else:
                    found.append([item])
        found += [others] if others else []
    return found


def name_of(part: list[str]) -> str:
    return part[0] if len(part) == 1 else f"{part[0].partition('::')[0]} ({len(part)} functions)"


@pytest.fixture(scope="session")
def simulated_gpu(request, tmp_path_factory) -> Path:
    """Where it was built: kept by pytest's cache until its sources change."""
    sources = (DOUBLE / "libcuda.c").read_bytes() + (DOUBLE / "build.py").read_bytes()
    name = f"simulated-gpu-{hashlib.sha256(sources + sys.version.encode()).hexdigest()[:12]}"
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir(name) if cache is not None else run_folder(tmp_path_factory) / name
    try:
        return built_once(folder / "built", build)
    except CannotBuildError as error:
        pytest.skip(str(error))


def test_the_simulated_driver_and_pycuda_are_built(simulated_gpu):
    """By itself, since it takes a minute and more; all others use what it leaves."""
    assert (simulated_gpu / "lib" / "libcuda.so.1").is_file()
    assert list(simulated_gpu.glob("site/pycuda/_driver.*.so"))


@pytest.mark.parametrize("part", parts(), ids=name_of)
def test_what_is_for_a_gpu_passes_on_the_simulated_one(
    simulated_gpu, tmp_path, tmp_path_factory, part
):
    packages = [simulated_gpu / "site", DOUBLE / "packages"]
    report = tmp_path / "report.jsonl"
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider"]
    part = [str(HERE / item) for item in part]
    hanging = ["-o", f"faulthandler_timeout={PATIENCE_S // 2}"]
    done = subprocess.run(
        [*command, *hanging, "--basetemp", str(tmp_path / "inside"), *part],
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(toolkit() / "bin"), os.environ["PATH"]]),
            "LD_LIBRARY_PATH": str(simulated_gpu / "lib"),
            "PYTHONPATH": os.pathsep.join(str(folder) for folder in packages),
            "SIMULATED_GPU_REPORT": str(report),
            "SIMULATED_GPU_SHARED": str(run_folder(tmp_path_factory) / "simulated-gpu"),
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
