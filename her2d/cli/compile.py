"""`her2d compile`: compile a bundle for one back end and compare the plan with fp32."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from her2d.bundle.loading import load_bundle
from her2d.bundle.manifest import Preprocessing
from her2d.cli.errors import UserError
from her2d.cli.extras import needing
from her2d.cli.options import ConfigOption, JsonOption, settings_of
from her2d.cli.tables import Listing, fields
from her2d.cli.terminal import say
from her2d.inference.engine import EngineError, Tiles
from her2d.inference.options import BackendName, Precision, usual_batch
from her2d.inference.plans import Profile, Sidecar
from her2d.inference.ways import Way
from her2d.method import MethodName

_BACKENDS: dict[str, BackendName] = {
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
}


class BackendChoice(StrEnum):
    """Back ends that run compiled plans."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"


class PrecisionChoice(StrEnum):
    """Precisions that a plan may have."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


_PRECISIONS: dict[PrecisionChoice, Precision] = {
    PrecisionChoice.FP32: "fp32",
    PrecisionChoice.FP16: "fp16",
    PrecisionChoice.BF16: "bf16",
    PrecisionChoice.INT8: "int8",
}


def compile_(
    directory: Annotated[
        Path | None, typer.Argument(help="Bundle folder. Default: the one in the settings.")
    ] = None,
    backend: Annotated[BackendChoice, typer.Option(help="Back end that will run the plan.")] = (
        BackendChoice.TENSORRT
    ),
    precision: Annotated[
        PrecisionChoice | None,
        typer.Option(help="Precision of the plan. Default: the fastest here, int8 excepted."),
    ] = None,
    slides: Annotated[
        list[Path] | None,
        typer.Option(
            "--slide", help="Slide to calibrate and compare on; repeatable. Default: simulated."
        ),
    ] = None,
    tiles: Annotated[
        int,
        typer.Option(
            min=2, max=10_000, help="Tissue tiles to use, half to calibrate, half to compare."
        ),
    ] = 16,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compile a bundle for one back end.

    The plan is compared with ONNX Runtime in fp32, and written to the bundle's folder with a JSON
    sidecar. It is rejected if it differs by more than the manifest's tolerance. If there is no
    device to run it on, it is marked `unverified`, and the daemon compares it before the first
    slide.
    """
    with needing(f"her2d compile --backend {backend}", backend.value):
        # Only the extras install onnx.
        from her2d.inference.compiler.compile import (
            CompileOrder,
            TilesToTry,
            compile_bundle,
            fastest_precision,
            platform_for,
        )
    settings = settings_of(config)
    bundle = load_bundle(directory or settings.bundle.path)
    if bundle.manifest.method is MethodName.MIL:
        raise UserError(
            f"The bundle {bundle.directory} calls slides by attention (mil): it runs on ONNX"
            " Runtime in fp32 and needs no compiled plan."
        )
    name, pipeline = _BACKENDS[backend], settings.pipeline
    segmenter = pipeline.segmenter_batch or usual_batch(name)
    classifiers = pipeline.classifier_batch or usual_batch(name)
    order = CompileOrder(
        name,
        _PRECISIONS[precision] if precision else fastest_precision(name),
        Profile(best=segmenter, most=segmenter),
        Profile(best=classifiers, most=classifiers),
    )
    # Checked before tiles are read or simulated, which takes longer.
    platform_for(order)
    chosen = _tissue(slides, tiles, bundle.manifest.preprocessing)
    to_try = TilesToTry(calibration=chosen[::2], check=chosen[1::2])
    with _Bars(Console(stderr=True)) as bars:
        try:
            compiled = compile_bundle(bundle, order, to_try, progress=bars)
        except OSError as error:
            raise EngineError(f"The plan cannot be written: {error}.") from error
    if as_json:
        say(compiled.sidecar.model_dump_json(indent=2))
        return
    _listing(compiled.files.sidecar, compiled.sidecar).print(Console())


def _tissue(slides: list[Path] | None, wanted: int, rules: Preprocessing) -> Tiles:
    """Return `wanted` tissue tiles, or all if there are fewer, spread evenly over the slides.

    Raises:
        SlideError: a slide cannot be read.
        UserError: there are fewer than two tissue tiles.
    """
    if not slides:
        from her2d.simulator.tissue import tissue_tiles

        return tissue_tiles(wanted)
    every = [tile for path in slides for tile in _tissue_of(path, rules)]
    if len(every) < 2:
        raise UserError("The slides have fewer than two tissue tiles, too few to compare on.")
    wanted = min(wanted, len(every))
    return np.stack([every[at] for at in np.linspace(0, len(every) - 1, wanted).astype(int)])


def _tissue_of(path: Path, rules: Preprocessing) -> list[NDArray[np.uint8]]:
    from her2d.pipeline.saturation import mean_saturation
    from her2d.slides.grid import Tile
    from her2d.slides.reader import open_slide

    with open_slide(path, um_per_px=rules.mpp) as slide:
        return [
            tile.pixels
            for tile in slide.tiles()
            if isinstance(tile, Tile) and mean_saturation(tile.pixels) > rules.saturation
        ]


def _listing(path: Path, sidecar: Sidecar) -> Listing:
    rows = [
        ("sidecar", str(path)),
        ("compiled by", f"{sidecar.backend} {sidecar.library_version}"),
        ("on", f"{sidecar.gpu}, compute capability {sidecar.compute_capability}"),
        ("verified on", sidecar.verified_on),
    ]
    if sidecar.ways is not None:
        rows.append(("segmenter runs", _way(sidecar.ways.segmenter.chosen)))
        rows.append(("classifiers run", _way(sidecar.ways.classifiers.chosen)))
    if sidecar.parity is not None:
        for name, value in sidecar.parity.model_dump(exclude={"verified_on"}).items():
            rows.append((name, "none" if value is None else f"{value:.6g}"))
    return fields(rows, title=f"{sidecar.backend} {sidecar.precision}")


def _way(way: Way) -> str:
    tiles = "tile by tile" if way.batch == 1 else f"{way.batch} tiles at once"
    calls = "" if way.calls == 1 else f", in {way.calls} calls side by side"
    return f"{tiles}{calls}, threads: {way.calls * way.threads}"


class _Bars(Progress):
    """A progress bar for each phase of the build, removed at its end."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:>40}"), BarColumn(), MofNCompleteColumn())
        super().__init__(*columns, TimeElapsedColumn(), console=console, transient=True)
        self._of_phase: dict[str, TaskID] = {}

    def __call__(self, phase: str, done: int, steps: int) -> None:
        if phase not in self._of_phase:
            self._of_phase[phase] = self.add_task(phase, total=steps)
        task = self._of_phase[phase]
        self.update(task, completed=done, total=steps)
        if done >= steps:
            self.remove_task(self._of_phase.pop(phase))
