"""TIAToolbox's engines: its SemanticSegmentor, then its PatchPredictor on the tumour tiles."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tiatoolbox import logger
from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig, IOSegmentorConfig
from tiatoolbox.models.engine.patch_predictor import PatchPredictor
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
from tiatoolbox.models.models_abc import ModelABC
from torch import Tensor, nn

from tools.peers.contestants.found import TILE_PX, Forest, found, has_tumor
from tools.peers.contestants.networks import (
    Weights,
    build_classifiers,
    build_segmenter,
    load_weights,
    normalized,
)
from tools.peers.served import arguments, serve

_MASK_PX = 8


class _Segmenter(ModelABC):  # type: ignore[misc]
    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.weights, self.network = weights, build_segmenter(weights)

    def forward(self, tiles: Tensor) -> Tensor:
        logits: Tensor = self.network(normalized(tiles.numpy(), self.weights))
        return logits.softmax(1)

    @staticmethod
    def infer_batch(model: nn.Module, batch_data: Tensor, *, device: str) -> NDArray[np.float32]:
        with torch.inference_mode():
            p: Tensor = model(batch_data)
        return p.permute(0, 2, 3, 1).numpy()

    @staticmethod
    def postproc(image: Any) -> Any:
        return image.argmax(axis=-1)


class _Classifiers(ModelABC):  # type: ignore[misc]
    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.weights, self.networks = weights, nn.ModuleList(build_classifiers(weights))

    def forward(self, tiles: Tensor) -> Tensor:
        x = normalized(tiles.numpy(), self.weights)
        return torch.stack([network(x).softmax(1)[:, 1] for network in self.networks], dim=1)

    @staticmethod
    def infer_batch(model: nn.Module, batch_data: Tensor, *, device: str) -> NDArray[np.float32]:
        with torch.inference_mode():
            p: Tensor = model(batch_data)
        return p.numpy()

    @staticmethod
    def postproc(image: Any) -> Any:
        return image


def main() -> None:
    """Score the slide whenever asked."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    logger.setLevel("ERROR")
    given = arguments()
    slide, batch = Path(given["slide"]), int(given["batch"])
    weights = load_weights(Path(given["weights"]))
    forest = Forest(Path(given["integrator"]), weights.tile_cut)
    segmentor = SemanticSegmentor(_Segmenter(weights), batch_size=batch, verbose=False)
    predictor = PatchPredictor(_Classifiers(weights), batch_size=batch, verbose=False)
    resolution = [{"units": "baseline", "resolution": 1.0}]
    shape = (TILE_PX, TILE_PX)
    segmenting = IOSegmentorConfig(
        input_resolutions=resolution,
        output_resolutions=resolution,
        patch_input_shape=shape,
        patch_output_shape=shape,
        stride_shape=shape,
    )
    predicting = IOPatchPredictorConfig(
        input_resolutions=resolution, patch_input_shape=shape, stride_shape=shape
    )

    def run(engine: Any, ioconfig: Any, folder: Path, **more: Any) -> Any:
        done = engine.run(
            images=[slide],
            patch_mode=False,
            ioconfig=ioconfig,
            save_dir=folder,
            overwrite=True,
            output_type="zarr",
            device="cpu",
            **more,
        )
        import zarr

        return zarr.open(str(done[slide]), mode="r")

    def score() -> dict[str, object]:
        folder = Path(tempfile.mkdtemp(prefix="tiatoolbox-"))
        try:
            classes = run(segmentor, segmenting, folder / "segmented", auto_get_mask=False)
            tumor = np.asarray(classes["predictions"][:]) == 1
            rows, columns = tumor.shape[0] // TILE_PX, tumor.shape[1] // TILE_PX
            tiles = tumor.reshape(rows, TILE_PX, columns, TILE_PX).swapaxes(1, 2)
            counts = tiles.sum(axis=(2, 3))
            chosen = has_tumor(counts)
            mask = np.zeros((rows, _MASK_PX, columns, _MASK_PX), np.uint8)
            mask[:, 2:-2, :, 2:-2] = chosen[:, None, :, None]
            path = folder / "tumor.png"
            cv2.imwrite(str(path), 255 * mask.reshape(rows * _MASK_PX, columns * _MASK_PX))
            p = run(
                predictor,
                predicting,
                folder / "predicted",
                masks=[path],
                return_probabilities=True,
            )
            places = np.asarray(p["coordinates"][:])[:, :2] // TILE_PX
            by_place = np.full((rows, columns, 5), np.nan, np.float32)
            by_place[places[:, 1], places[:, 0]] = p["probabilities"][:]
        finally:
            shutil.rmtree(folder)
        mask = tiles.reshape(-1, TILE_PX, TILE_PX)
        return found(counts.ravel(), by_place[chosen], forest, mask)

    serve(score, ("tiatoolbox", "torch", "openslide-bin"))


if __name__ == "__main__":
    main()
