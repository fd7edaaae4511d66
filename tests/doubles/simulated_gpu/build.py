"""Build the simulated driver, and PyCUDA against it, into a folder.

PyCUDA is the real one, built from its source distribution; TensorRT and the driver are simulated.
Run as a script with a folder, this module builds only PyCUDA's wheel, for the Python that runs it.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

_HERE = Path(__file__).parent
_LIBRARY = "libcuda.so.1"
_NOT_SUPPORTED = 801  # CUDA_ERROR_NOT_SUPPORTED
_PYCUDA = "pycuda==2026.1"
_PIP = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
_PYCUDA_NEEDS = ("pytools==2026.1.1", "siphash24==1.9")


class CannotBuildError(Exception):
    """This machine lacks something; `str(error)` names it."""


def build(folder: Path) -> None:
    """Build `lib/libcuda.so.1` and `site/pycuda` in `folder`. Raises as `pycuda_wheel` does."""
    site, library = folder / "site", folder / "lib" / _LIBRARY
    # Optimising takes a third of the compiler's time, and here nothing is timed.
    wheel = pycuda_wheel(folder / "wheel", CFLAGS="-O0 -g0", CXXFLAGS="-O0 -g0")
    _run([*_PIP, "install", "--no-deps", "--target", str(site), str(wheel), *_PYCUDA_NEEDS])
    library.parent.mkdir()
    _compile(library)
    # PyCUDA refers to every call of the driver, and Python needs them all when it loads PyCUDA.
    _compile(library, missing=_calls(site) - _calls_of(library))


def pycuda_wheel(folder: Path, **environment: str) -> Path:
    """Build PyCUDA for this Python into `folder`.

    Args:
        folder: Where the wheel is written.
        environment: Further variables for the compiler.

    Raises:
        CannotBuildError: no compiler, no Python headers, no CUDA toolkit, no network.
        subprocess.CalledProcessError: the build failed; its output is printed.
    """
    cuda = toolkit()
    python = Path(sysconfig.get_path("include")) / "Python.h"
    for found, what in (
        (shutil.which("g++"), "a C++ compiler"),
        (python.is_file(), "Python's headers"),
    ):
        if not found:
            raise CannotBuildError(f"PyCUDA cannot be built here without {what}.")
    with tempfile.TemporaryDirectory() as home:
        # PyCUDA's random numbers need one more library, and no test uses them.
        Path(home, ".aksetup-defaults.py").write_text("CUDA_ENABLE_CURAND = False\n")
        # PyCUDA is linked to any driver; which one it uses is decided when it is loaded.
        _compile(Path(home, "libcuda.so"))
        environment |= {
            "HOME": home,
            "CUDA_ROOT": str(cuda),
            "LIBRARY_PATH": home,
            "PATH": f"{cuda / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        if (theirs := Path("~/.config/pip/pip.conf").expanduser()).is_file():
            environment["PIP_CONFIG_FILE"] = os.environ.get("PIP_CONFIG_FILE", str(theirs))
        source = ["--no-cache-dir", "--no-binary", "pycuda", _PYCUDA]
        try:
            _run([*_PIP, "wheel", "--no-deps", *source, "-w", str(folder)], **environment)
        except subprocess.CalledProcessError as error:
            if "No matching distribution found" in error.stderr:
                raise CannotBuildError("PyCUDA's source cannot be downloaded here.") from error
            raise
    (wheel,) = folder.glob("pycuda-*.whl")
    return wheel


def toolkit() -> Path:
    """Find the CUDA toolkit. Raises CannotBuildError if it is not installed."""
    beside_nvcc = [Path(nvcc).resolve().parents[1]] if (nvcc := shutil.which("nvcc")) else []
    for folder in (*beside_nvcc, Path("/usr/local/cuda")):
        if (folder / "include/cuda.h").is_file() and (folder / "bin/nvcc").is_file():
            return folder
    raise CannotBuildError("PyCUDA cannot be built here without a CUDA toolkit.")


def _compile(library: Path, missing: frozenset[str] = frozenset()) -> None:
    rest = library.with_name("rest.c")
    rest.write_text(
        "".join(f"int {name}(void) {{ return {_NOT_SUPPORTED}; }}\n" for name in sorted(missing))
    )
    command = ["gcc", "-O1", "-shared", "-fPIC", "-pthread", f"-I{toolkit() / 'include'}"]
    sources = [str(_HERE / "libcuda.c"), str(rest)]
    _run([*command, f"-Wl,-soname,{_LIBRARY}", "-o", str(library), *sources])


def _calls(site: Path) -> frozenset[str]:
    """List the driver's calls that PyCUDA needs."""
    (extension,) = site.glob("pycuda/_driver.*.so")
    return _symbols("--undefined-only", extension)


def _calls_of(library: Path) -> frozenset[str]:
    return _symbols("--defined-only", library)


def _symbols(which: str, library: Path) -> frozenset[str]:
    listed = _run(["nm", "--dynamic", "--format=posix", which, str(library)])
    names = [line.split()[0] for line in listed.splitlines()]
    return frozenset(name for name in names if name.startswith("cu"))


def _run(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        done.check_returncode()
    return done.stdout


if __name__ == "__main__":
    pycuda_wheel(Path(sys.argv[1]))
