"""Compiled plans beside a bundle: their files, their sidecar, and whether one may be loaded.

A plan is two compiled graphs and a JSON sidecar that describes them. A plan is loaded only if its
sidecar fits the bundle, the library and the device.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from her2d.bundle.loading import Bundle, sha256_of
from her2d.bundle.manifest import Sha256, Tolerance
from her2d.inference.engine import EngineError
from her2d.inference.options import BackendName, Precision
from her2d.inference.ways import PlanWays, Way, simplest_way
from her2d.system.files import PUBLIC, write_whole

NO_GPU = "none"
UNVERIFIED = "unverified"

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class PlanError(EngineError):
    """No plan can be used; `str(error)` gives the reason and the remedy."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Profile(_Section):
    """Batch sizes, in tiles, that a graph was compiled for.

    Attributes:
        smallest, most: limits.
        best: size for which it is optimised.
    """

    smallest: Annotated[int, Field(ge=1)] = 1
    best: Annotated[int, Field(ge=1)]
    most: Annotated[int, Field(ge=1)]


class CompiledPart(_Section):
    """One graph of the plan.

    Attributes:
        source_sha256: of the bundle's ONNX file.
        plan_sha256: of the compiled file.
        profile: batches that it accepts.
    """

    source_sha256: Sha256
    plan_sha256: Sha256
    profile: Profile


class Parity(_Section):
    """How a plan differs from ONNX Runtime in fp32 on the same tiles.

    Attributes:
        tiles: number of tiles compared.
        mask_agreement: share of pixels with the same class.
        max_dp: largest difference in p(strong) of any fold on any tile.
        changed_tiles: share of tiles whose class (non-tumour, weak or strong) differs.
        change_in_p: difference in P over all tiles, percentage points; None without tumour.
        verified_on: name of the GPU or of the processor.
    """

    tiles: Annotated[int, Field(ge=1)]
    mask_agreement: Share
    max_dp: Share
    changed_tiles: Share
    change_in_p: Annotated[float, Field(ge=0, le=100)] | None
    verified_on: str

    def refusal(self, tolerance: Tolerance) -> str | None:
        """Return in one sentence which difference is too large, or None if none is."""
        moved = self.change_in_p or 0.0
        for figure, bound, exceeded in (
            ("mask agreement", tolerance.mask_agreement, self.mask_agreement),
            ("max |dp|", tolerance.max_dp, self.max_dp),
            ("changed tiles", tolerance.changed_tiles, self.changed_tiles),
            ("change in P (percentage points)", tolerance.change_in_p, moved),
        ):
            least = figure == "mask agreement"
            if exceeded < bound if least else exceeded > bound:
                side = "at least" if least else "at most"
                return (
                    f"It differs too much from ONNX Runtime in fp32: {figure} is {exceeded:.5g},"
                    f" the bundle allows {side} {bound:g}."
                )
        return None


class Sidecar(_Section):
    """The content of a plan's JSON file.

    Attributes:
        backend, precision: what the plan is for.
        library_version: version of the library that compiled it.
        gpu, compute_capability: device that it was compiled on; `none` without a GPU.
        segmenter, classifiers: the compiled graphs.
        ways: how it runs fastest on the CPUs of the machine that compiled it; None on a GPU. On
            others it runs in the simplest way.
        parity: None for an unverified plan, which was compiled without a device.
        compiled_at: ISO 8601 time in UTC.
        software_version: of her2d.
    """

    backend: BackendName
    precision: Precision
    library_version: str
    gpu: str
    compute_capability: str
    segmenter: CompiledPart
    classifiers: CompiledPart
    ways: PlanWays | None = None
    parity: Parity | None
    compiled_at: str
    software_version: str

    @property
    def verified_on(self) -> str:
        """Name of the device on which the plan was compared with fp32, or `unverified`."""
        return self.parity.verified_on if self.parity is not None else UNVERIFIED

    def ways_on(self, processor: str | None, threads: int) -> tuple[Way, Way]:
        """Return how segmenter and classifiers run on a processor, with a number of threads in all.

        What was measured on another one, or with another number, says nothing about this one.
        """
        if self.ways is None or (self.ways.processor, self.ways.cpus) != (processor, threads):
            return simplest_way(threads), simplest_way(threads)
        return self.ways.segmenter.chosen, self.ways.classifiers.chosen


@dataclass(frozen=True, slots=True)
class Platform:
    """The library and the device that would load a plan.

    Attributes:
        library_version: version of the library.
        gpu, compute_capability: the GPU; `none` for the CPU.
        device: what would run the plan, the GPU or the processor; None without either, where only
            compiling is possible.
    """

    library_version: str
    gpu: str
    compute_capability: str
    device: str | None


@dataclass(frozen=True, slots=True)
class PlanFiles:
    """Paths of a plan's files, which need not exist."""

    bundle: Bundle
    backend: BackendName
    precision: Precision

    @property
    def segmenter(self) -> Path:
        return self._named("segmenter.plan")

    @property
    def classifiers(self) -> Path:
        return self._named("classifiers.plan")

    @property
    def sidecar(self) -> Path:
        return self._named("plan.json")

    @property
    def check_tiles(self) -> Path:
        """File of the tiles on which the plan is compared, array `tiles`."""
        return self._named("plan.npz")

    @property
    def command(self) -> str:
        """The command that compiles the plan."""
        return (
            f"her2d compile {self.bundle.directory} --backend {self.backend.replace('_', '-')}"
            f" --precision {self.precision}"
        )

    def _named(self, suffix: str) -> Path:
        return self.bundle.directory / f"{self.backend}-{self.precision}.{suffix}"


def read_sidecar(files: PlanFiles) -> Sidecar:
    """Read a plan's sidecar. Raises PlanError if there is none or it cannot be read."""
    try:
        text = files.sidecar.read_text()
    except FileNotFoundError as error:
        raise PlanError(f"No plan was compiled. Compile one: {files.command}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"The plan's {files.sidecar} cannot be read: {error}.") from error
    try:
        return Sidecar.model_validate_json(text)
    except ValidationError as error:
        where = ".".join(str(step) for step in error.errors()[0]["loc"])
        raise PlanError(
            f"{files.sidecar} is not a valid sidecar ({where or 'not JSON'})."
            f" Compile the plan again: {files.command}."
        ) from error


def write_sidecar(files: PlanFiles, sidecar: Sidecar) -> None:
    """Replace a plan's sidecar atomically. Raises OSError."""
    text = sidecar.model_dump_json(indent=2) + "\n"
    write_whole(files.sidecar, text.encode(), mode=PUBLIC)


def loadable_plan(files: PlanFiles, platform: Platform) -> Sidecar:
    """Check that a plan may be loaded on `platform` and return its sidecar.

    Raises:
        PlanError: the plan was compiled from other graphs, by another library version or for
            another device, was altered since, or differs too much from fp32 on this device.
    """
    sidecar = read_sidecar(files)
    reason = _unfit(files, sidecar) or _foreign(sidecar, platform) or _altered(files, sidecar)
    # A comparison on another device says nothing about this one, where it is made first.
    is_compared_here = platform.device in (None, sidecar.verified_on)
    if reason is None and sidecar.parity is not None and is_compared_here:
        reason = sidecar.parity.refusal(files.bundle.manifest.tolerance)
    _refuse(files, reason)
    return sidecar


def intact_plan(files: PlanFiles) -> Sidecar:
    """Check that a plan is of its bundle and unaltered, wherever it may be loaded.

    Raises:
        PlanError: the plan was compiled from other graphs, or was altered since.
    """
    sidecar = read_sidecar(files)
    _refuse(files, _unfit(files, sidecar) or _altered(files, sidecar))
    return sidecar


def _refuse(files: PlanFiles, reason: str | None) -> None:
    if reason is not None:
        name = f"{files.backend}-{files.precision}"
        raise PlanError(f"The plan {name} is refused. {reason} Compile it again: {files.command}.")


def _unfit(files: PlanFiles, sidecar: Sidecar) -> str | None:
    parts = files.bundle.her2net
    if (sidecar.backend, sidecar.precision) != (files.backend, files.precision):
        return f"It was compiled for {sidecar.backend} in {sidecar.precision}."
    for part, compiled in (
        (parts.segmenter, sidecar.segmenter),
        (parts.classifiers, sidecar.classifiers),
    ):
        if part.sha256 != compiled.source_sha256:
            return f"It was not compiled from the bundle's {part.file}."
    return None


def _foreign(sidecar: Sidecar, platform: Platform) -> str | None:
    if sidecar.library_version != platform.library_version:
        return (
            f"It was compiled by version {sidecar.library_version}, but"
            f" {platform.library_version} is installed."
        )
    # A plan of TensorRT for RTX runs on every card, one of TensorRT only where it was built.
    here = (platform.gpu, platform.compute_capability)
    if sidecar.backend == "tensorrt" and (sidecar.gpu, sidecar.compute_capability) != here:
        return (
            f"It was compiled for {sidecar.gpu} ({sidecar.compute_capability}), but this device is"
            f" {platform.gpu} ({platform.compute_capability})."
        )
    return None


def _altered(files: PlanFiles, sidecar: Sidecar) -> str | None:
    for path, compiled in (
        (files.segmenter, sidecar.segmenter),
        (files.classifiers, sidecar.classifiers),
    ):
        try:
            found = sha256_of(path)
        except OSError as error:
            return f"Its {path.name} cannot be read: {error.strerror}."
        if found != compiled.plan_sha256:
            return f"Its {path.name} is not the file that its sidecar describes."
    return None
