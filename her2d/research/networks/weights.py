"""Weights from and to a local safetensors file: tensors only, nothing that runs."""

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

_COUNT = ".num_batches_tracked"
# denselayer1.norm.1 in the published files, denselayer1.norm1 in what torchvision saves itself.
_DENSE_LAYER = re.compile(r"(features\.denseblock\d+\.denselayer\d+)\.(norm|conv)\.?([12])\.")


def save_weights(network: nn.Module, path: Path) -> None:
    """Write parameters and batch statistics. Raises OSError."""
    save_file({name: t.contiguous() for name, t in network.state_dict().items()}, path)


def load_weights(network: nn.Module, path: Path) -> None:
    """Copy a file's tensors into `network`.

    The last layer may be missing or of another number of classes, as ImageNet's is: then it stays
    as it was initialised. Counts of batches may be missing, as in torchvision's published files:
    nothing that a network computes depends on them. torchvision's ResNets have the names that ours
    have; its DenseNets' names are translated.

    Raises:
        ValueError: the file is no safetensors file, or holds other tensors than the network.
    """
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"the weights {path} cannot be read: {error}") from error
    own = network.state_dict()
    found = {_translated(name): tensor for name, tensor in found.items()}
    head = list(own)[-2:]  # every network of ours ends in one layer's weight and bias
    for name in list(own):
        fits = name in found and found[name].shape == own[name].shape
        absent_count = name.endswith(_COUNT) and name not in found
        if not fits and (name in head or absent_count):
            found[name] = own[name]
        elif not fits:
            raise ValueError(f"the weights {path} are of another network: {name} does not fit")
    if surplus := sorted(found.keys() - own.keys()):
        raise ValueError(f"the weights {path} are of another network: it has no {surplus[0]}")
    with torch.no_grad():
        network.load_state_dict(found)


def _translated(name: str) -> str:
    """A tensor's name in torchvision's DenseNet, as MONAI's has it; other names as they are."""
    name = _DENSE_LAYER.sub(r"\1.layers.\2\3.", name)
    return re.sub(r"^classifier\.", "class_layers.out.", name)
