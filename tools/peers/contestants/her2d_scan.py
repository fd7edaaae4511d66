"""her2d itself, in its own environment: scoring, the classification half, and reading."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from her2d import Scorer, load_bundle, open_slide
from her2d.inference.options import EngineOptions
from her2d.inference.selection import open_engine
from her2d.slides.grid import Tile
from tools.peers.served import Work, arguments, mean_of, serve


def main() -> None:
    """Do the wanted work whenever asked."""
    cv2.setNumThreads(1)
    given = arguments()
    work = {"score": _scoring, "classify": _classifying, "read": _reading}[given["work"]]
    library = {"openvino": "openvino"}.get(given.get("backend", ""), "onnxruntime")
    serve(work(given), ("her2d", library, "numpy"))


def _scoring(given: dict[str, str]) -> Work:
    scorer = Scorer(
        Path(given["bundle"]),
        backend=given["backend"],  # type: ignore[arg-type]
        precision=given["precision"],  # type: ignore[arg-type]
        threads=1,
    )
    backend = scorer.processor.backend

    def score() -> dict[str, Any]:
        scored = scorer.score(Path(given["slide"]))
        tiles = scored.tiles
        return {
            "backend": backend,
            "tumor_pixels": tiles.tumor_pixels.ravel().tolist(),
            "p_folds": tiles.p_folds[tiles.tumor].tolist(),
            "strong": tiles.strong[tiles.tumor].tolist(),
            "percent": scored.outcome.score.high_expression_percent,
        }

    return score


def _classifying(given: dict[str, str]) -> Work:
    """Read and classify given tiles, without finding them: what WSInfer does."""
    engine = open_engine(
        load_bundle(Path(given["bundle"])),
        backend=given["backend"],
        options=EngineOptions(precision=given["precision"], threads=1),  # type: ignore[arg-type]
    )
    places = {(int(left) // 512, int(top) // 512) for left, top in np.load(given["places"])}

    def classify() -> dict[str, Any]:
        p_folds = []
        with open_slide(Path(given["slide"])) as slide:
            for tile in slide.tiles(workers=1):
                if isinstance(tile, Tile) and (tile.column, tile.row) in places:
                    p_folds += engine.classify(tile.pixels[None]).tolist()
        return {"p_folds": p_folds}

    return classify


def _reading(given: dict[str, str]) -> Work:
    passes = int(given["passes"])

    def read() -> dict[str, Any]:
        for _ in range(passes):
            with open_slide(Path(given["slide"])) as slide:
                means = [
                    mean_of(tile.pixels)
                    for tile in slide.tiles(workers=1)
                    if isinstance(tile, Tile)
                ]
                level = slide.get_best_level_for_downsample(slide.grid.level0_downsample)
                size = slide.level_dimensions[level]
        return {"means": means, "level": "{} ({} x {})".format(level, *size)}

    return read


if __name__ == "__main__":
    main()
