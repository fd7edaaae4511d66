"""`python -m tools.peers`: her2d beside OpenSlide and PyTorch, TIAToolbox, WSInfer and readers."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from her2d import load_bundle, open_slide
from her2d.bundle.loading import Bundle
from her2d.cli.app import main
from her2d.cli.errors import UserError
from her2d.inference.selection import open_engine
from her2d.pipeline.rules import rules_of
from her2d.slides.grid import Tile
from tools.benchmark.slide import write_tissue_slide
from tools.peers.agreement import agreement
from tools.peers.contest import Contestant, compare
from tools.peers.random_bundle import write_random_bundle
from tools.peers.report import Comparison, markdown
from tools.peers.slides import Layout, whole_tissue, write_layouts
from tools.peers.weights import write_weights

_ROOT = Path(__file__).parents[2]
_SHIPPED = _ROOT / "engines" / "her2net-demo"
_PLANS = (("openvino", "fp32"), ("openvino", "bf16"))
_BATCH = {"shipped": "4", "full": "1"}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class Size(StrEnum):
    """Which bundle all contestants run."""

    SHIPPED = "shipped"
    FULL = "full"


class Part(StrEnum):
    """What can be compared."""

    SCORING = "scoring"
    CLASSIFYING = "classifying"
    READING = "reading"


@app.command()
def peers(
    size: Annotated[
        Size,
        typer.Option(help="The shipped bundle, or one of the paper's size, of random weights."),
    ] = Size.SHIPPED,
    repeats: Annotated[int, typer.Option(min=1, help="How often each contestant works.")] = 5,
    tiles: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tiles of the slide that is scored. Default: 176, or 4 at full size."
        ),
    ] = None,
    parts: Annotated[
        list[Part] | None,
        typer.Option(
            "--part",
            help="What to compare; may be repeated. Default: all; at full size, not reading.",
        ),
    ] = None,
    only: Annotated[
        str, typer.Option(help="Only contestants whose names contain this, and her2d.")
    ] = "",
    environment: Annotated[
        Path, typer.Option(help="The peers' environment, which `make peers` makes.")
    ] = _ROOT / ".venv-peers",
    folder: Annotated[
        Path, typer.Option(help="Where bundles, plans and slides are kept for the next time.")
    ] = _ROOT / ".cache" / "peers",
    json_file: Annotated[Path | None, typer.Option("--json", help="File for all values.")] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="File for the tables, for RESULTS.md.")
    ] = None,
) -> None:
    """Measure processor time on one core: scoring, classifying, and reading alone.

    All contestants have the same slide and the same weights, and take turns. What they find is
    compared with what her2d finds in fp32.
    """
    if not (environment / "bin" / "python").exists():
        raise UserError(f"{environment} does not exist. Make it with: make .venv-peers/.installed")
    arena = _Arena(size, tiles, environment, folder, repeats, only)
    wanted = parts or [part for part in Part if size is Size.SHIPPED or part is not Part.READING]
    comparisons = []
    if Part.SCORING in wanted:
        comparisons.append(arena.scoring())
    if Part.CLASSIFYING in wanted:
        comparisons.append(arena.classifying())
    if Part.READING in wanted:
        comparisons += [arena.reading(layout) for layout in arena.layouts()]
    command = " ".join(["python -m tools.peers", *sys.argv[1:]])
    text = markdown(comparisons, command, arena.subject)
    typer.echo(text)
    if markdown_file is not None:
        markdown_file.write_text(text)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(each) for each in comparisons], indent=1) + "\n")


class _Arena:
    """Bundle, plans and slides, made where they are not there yet."""

    def __init__(
        self,
        size: Size,
        tiles: int | None,
        environment: Path,
        folder: Path,
        repeats: int,
        only: str,
    ) -> None:
        self._environment, self._repeats, self._only = environment, repeats, only
        self._batch = _BATCH[size]
        _say("rendering tissue")
        self._tissue = whole_tissue(rules_of(load_bundle(_SHIPPED)).quality)
        self.bundle = _bundle(size, folder, self._tissue)
        self.folder = self.bundle.directory
        columns = 8 if size is Size.SHIPPED else 2
        rows = -(-(tiles or (176 if size is Size.SHIPPED else 4)) // columns)
        self.tiles = rows * columns
        self.slide = self.folder / f"slide-{columns}x{rows}.tif"
        if not self.slide.exists():
            write_tissue_slide(self.slide, self._tissue, rows, columns)
        manifest = self.bundle.manifest
        self.subject = (
            f"Bundle: {manifest.name} {manifest.version} ({manifest.parts.segmenter.architecture};"
            f" {self.bundle.her2net.classifiers.architecture}). PyTorch's batch: {self._batch}."
        )
        self._weights = self.folder / "weights.npz"
        if not self._weights.exists():
            write_weights(self.bundle, self._weights)
        self._mask = self.folder / f"{self.slide.stem}-reference.npy"
        self._places = self.folder / f"{self.slide.stem}-places.npy"
        if not self._places.exists():
            self._find_tumor()

    def scoring(self) -> Comparison:
        """Compare scoring a slide, from the file to P."""
        given = self._given()
        backends = [("onnxruntime", "fp32"), *self._plans()]
        ours = [
            Contestant(
                f"her2d {backend} {precision}",
                Path(sys.executable),
                "her2d_scan",
                {**given, "work": "score", "backend": backend, "precision": precision},
            )
            for backend, precision in backends
        ]
        theirs = [
            Contestant(name, self._python, module, {**given, "mask": str(self._mask_of(name))})
            for name, module in (
                ("OpenSlide and PyTorch", "script"),
                ("TIAToolbox", "tiatoolbox_engines"),
            )
        ]
        comparison = self._compare("Scoring", ours, theirs, self.tiles)
        reference = comparison.standings[0]
        for standing in comparison.standings if reference.turns else ():
            if standing.turns:
                masks = (self._mask_of(standing.name), self._mask)
                found = agreement(standing.found, reference.found, masks)
                comparison.agreements[standing.name] = found
                comparison.agree[standing.name] = found.within(self.bundle.manifest.tolerance)
        return comparison

    def classifying(self) -> Comparison:
        """Compare reading and classifying given tiles, which is all that WSInfer does."""
        given = {**self._given(), "places": str(self._places)}
        ours = [
            Contestant(
                f"her2d {backend} {precision}",
                Path(sys.executable),
                "her2d_scan",
                {**given, "work": "classify", "backend": backend, "precision": precision},
            )
            for backend, precision in [("onnxruntime", "fp32"), *self._plans()]
        ]
        packages = self._environment / "wsinfer"
        theirs = [Contestant("WSInfer", self._python, "wsinfer_half", given, packages)]
        tiles = len(np.load(self._places))
        comparison = self._compare("Reading and classifying tumour tiles", ours, theirs, tiles)
        reference = comparison.standings[0]
        for standing in comparison.standings if reference.turns else ():
            if standing.turns:
                found = agreement(standing.found, reference.found)
                comparison.agreements[standing.name] = found
                comparison.agree[standing.name] = found.within(self.bundle.manifest.tolerance)
        return comparison

    def layouts(self) -> tuple[Layout, ...]:
        """Return the slides to read alone."""
        return write_layouts(self.folder, self._tissue)

    def reading(self, layout: Layout) -> Comparison:
        """Compare reading the 4x tiles of a slide."""
        given = {
            "slide": str(layout.path),
            "scale": str(layout.scale),
            "passes": str(layout.passes),
        }
        ours = [Contestant("her2d", Path(sys.executable), "her2d_scan", {**given, "work": "read"})]
        theirs = [
            Contestant(library, self._python, "reading", {**given, "library": library})
            for library in ("openslide", "tiffslide", "fastslide")
        ]
        with open_slide(layout.path) as slide:
            tiles = slide.grid.rows * slide.grid.columns * layout.passes
        comparison = self._compare(f"Reading alone, {layout.name}", ours, theirs, tiles)
        reference = comparison.standings[0].found
        for standing in comparison.standings if reference else ():
            if not standing.turns:
                continue
            if (level := standing.found["level"]) != reference["level"]:
                raise UserError(
                    f"{standing.name} read level {level} of {layout.path}, her2d level"
                    f" {reference['level']}: their times say nothing."
                )
            means, expected = standing.found["means"], reference["means"]
            if len(means) != len(expected) or not np.allclose(means, expected, atol=2):
                raise UserError(f"{standing.name} read other pixels from {layout.path} than her2d.")
        return comparison

    @property
    def _python(self) -> Path:
        return self._environment / "bin" / "python"

    def _given(self) -> dict[str, str]:
        return {
            "slide": str(self.slide),
            "bundle": str(self.folder),
            "weights": str(self._weights),
            "integrator": str(self.bundle.integrator),
            "batch": self._batch,
        }

    def _mask_of(self, name: str) -> Path:
        return self.folder / f"{self.slide.stem}-{name.replace(' ', '-')}.npy"

    def _plans(self) -> list[tuple[str, str]]:
        """Compile the plans that are not there; return those that are accepted."""
        found = []
        for backend, precision in _PLANS:
            if not list(self.folder.glob(f"{backend}*{precision}*.json")):
                _say(f"compiling for {backend} in {precision}")
                command = ["compile", str(self.folder), "--backend", backend]
                options = ["--precision", precision, "--tiles", "4"]
                made = subprocess.run(
                    [sys.executable, "-m", "her2d", *command, *options],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if made.returncode:
                    _say(made.stderr.strip())
                    continue
            found.append((backend, precision))
        return found

    def _find_tumor(self) -> None:
        """Find the masks and the places of tumour tiles, by her2d in fp32."""
        _say("finding the tumour tiles")
        engine = open_engine(self.bundle, backend="onnxruntime")
        masks, places = [], []
        with open_slide(self.slide) as slide:
            for tile in slide.tiles():
                assert isinstance(tile, Tile)
                mask = engine.segment(tile.pixels[None]).mask[0]
                masks.append(np.packbits(mask))
                if mask.mean() > self.bundle.manifest.preprocessing.tumor_fraction:
                    places.append((512 * tile.column, 512 * tile.row))
        engine.close()
        np.save(self._mask, np.concatenate(masks))
        np.save(self._places, np.array(places))

    def _compare(
        self, title: str, ours: list[Contestant], theirs: list[Contestant], tiles: int
    ) -> Comparison:
        theirs = [each for each in theirs if self._only.lower() in each.name.lower()]
        log = self.folder / "contestants.log"
        standings = compare([*ours, *theirs], self._repeats, log, _say)
        return Comparison(title, tiles, standings, [each.name for each in ours], {}, {})


def _bundle(size: Size, folder: Path, tissue: np.ndarray) -> Bundle:
    """Return a copy of the shipped bundle, whose folder takes plans, or the random one."""
    if size is Size.FULL:
        target = folder / "full"
        if not (target / "manifest.toml").exists():
            _say("writing a bundle of the paper's size")
            shutil.rmtree(target, ignore_errors=True)
            write_random_bundle(target, tissue)
        return load_bundle(target)
    shipped = load_bundle(_SHIPPED)
    target = folder / shipped.digest[:12]
    if not target.exists():
        parts = ("manifest.toml", shipped.segmenter, shipped.classifiers, shipped.integrator)
        target.mkdir(parents=True)
        for part in parts:
            shutil.copy(_SHIPPED / part, target)
    return load_bundle(target)


def _say(what: str) -> None:
    typer.echo(what, err=True)


if __name__ == "__main__":
    main(app)
