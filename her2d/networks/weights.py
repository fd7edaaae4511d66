"""Weights from and to a local safetensors file: tensors only, nothing that runs."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn


def save_weights(network: nn.Module, path: Path) -> None:
    """Write parameters and batch statistics. Raises OSError."""
    save_file({name: t.contiguous() for name, t in network.state_dict().items()}, path)


def load_weights(network: nn.Module, path: Path) -> None:
    """Copy a file's tensors into `network`.

    The last layer may be missing or of another number of classes, as ImageNet's is: then it stays
    as it was initialised. torchvision's ResNets have the names that ours have.

    Raises:
        ValueError: the file is no safetensors file, or holds other tensors than the network.
    """
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"the weights {path} cannot be read: {error}") from error
    own = network.state_dict()
    head = list(own)[-2:]  # every network of ours ends in one layer's weight and bias
    for name in list(own):
        fits = name in found and found[name].shape == own[name].shape
        if not fits and name in head:
            found[name] = own[name]
        elif not fits:
            raise ValueError(f"the weights {path} are of another network: {name} does not fit")
    if surplus := sorted(found.keys() - own.keys()):
        raise ValueError(f"the weights {path} are of another network: it has no {surplus[0]}")
    with torch.no_grad():
        network.load_state_dict(found)
