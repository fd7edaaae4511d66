"""WSInfer classifies patches; it does not segment. It gets the tumour tiles' places.

Its models return logits, of which it takes the softmax. To get five independent probabilities
through that, the model returns `log(p / 5)` of each, and of the rest to 1.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from wsinfer.modellib.models import LocalModelTorchScript
from wsinfer.modellib.run_inference import run_inference
from wsinfer_zoo.client import ModelConfiguration, TransformConfigurationItem

from tools.peers.contestants.found import TILE_PX
from tools.peers.contestants.networks import build_classifiers, load_weights
from tools.peers.served import arguments, serve


class _Logits(nn.Module):
    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        p = torch.stack([network(x).softmax(1)[:, 1] for network in self.networks], dim=1)
        return torch.cat([p, len(self.networks) - p.sum(dim=1, keepdim=True)], dim=1).log()


def main() -> None:
    """Classify the tiles whenever asked."""
    torch.set_num_threads(1)
    given = arguments()
    weights = load_weights(Path(given["weights"]))
    places = np.load(given["places"])  # int (tiles, 2): left and top, in pixels
    work = Path(tempfile.mkdtemp(prefix="wsinfer-"))
    slides = work / "slides"
    slides.mkdir()
    slide = slides / "slide.tif"
    slide.symlink_to(given["slide"])
    model = work / "model.pt"
    with torch.inference_mode():
        example = torch.zeros(1, 3, TILE_PX, TILE_PX)
        network = _Logits([*build_classifiers(weights)]).eval()
        torch.jit.trace(network, example).save(str(model))  # type: ignore[no-untyped-call]
    names = [*(f"fold_{fold}" for fold in range(5)), "rest"]
    normalize = {"mean": weights.mean.tolist(), "std": weights.std.tolist()}
    config = ModelConfiguration(
        architecture="five ResNets",
        num_classes=len(names),
        class_names=names,
        patch_size_pixels=TILE_PX,
        spacing_um_px=2.5,
        transform=[
            TransformConfigurationItem(name="ToTensor", arguments=None),
            TransformConfigurationItem(name="Normalize", arguments=normalize),
        ],
    )
    info = LocalModelTorchScript(config=config, model_path=str(model))

    def classify() -> dict[str, Any]:
        results = work / "results"
        (results / "patches").mkdir(parents=True)
        try:
            with h5py.File(results / "patches" / "slide.h5", "w") as file:
                coords = file.create_dataset("coords", data=places)
                coords.attrs["patch_level"] = 0
                coords.attrs["patch_size"] = TILE_PX
            run_inference(slides, results, info, batch_size=int(given["batch"]))
            table = pd.read_csv(results / "model-outputs-csv" / "slide.csv")
        finally:
            shutil.rmtree(results)
        p = 5 * table[[f"prob_{name}" for name in names[:-1]]].to_numpy()
        return {"p_folds": p.tolist()}

    try:
        serve(classify, ("wsinfer", "torch", "tiffslide", "zarr"))
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
