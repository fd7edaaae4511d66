"""Save and load weights as safetensors files, which hold tensors and no executable code."""

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

_COUNT = ".num_batches_tracked"
# "denselayer1.norm.1" in the published files, "denselayer1.norm1" in what torchvision saves.
_DENSE_LAYER = re.compile(r"(features\.denseblock\d+\.denselayer\d+)\.(norm|conv)\.?([12])\.")


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the parameters and batch statistics of a network.

    Args:
        network: The network.
        path: Safetensors file to write.

    Raises:
        OSError: The file cannot be written.
    """
    save_file({name: t.contiguous() for name, t in network.state_dict().items()}, path)


def load_weights(network: nn.Module, path: Path) -> None:
    """Copy the tensors of a file into a network, in place.

    The last layer may be missing or have another number of classes, as with ImageNet weights; then
    it keeps its initial values. Batch counts may be missing, as in the files that torchvision
    publishes, because no output depends on them. Tensor names of torchvision's ResNets are those
    of ours; names of its DenseNets and Vision Transformers are translated.

    A segmenter with `encoder_names` also takes the weights of the classifier that its encoder is.
    The rest of it keeps its initial values.

    Args:
        network: The network to fill.
        path: Safetensors file to read.

    Raises:
        ValueError: The file cannot be read as safetensors, or its tensors do not fit the network.
    """
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"the weights {path} cannot be read: {error}") from error
    expected = network.state_dict()
    names: dict[str, str] = getattr(network, "encoder_names", dict)()
    if names and not found.keys() & expected.keys():
        _load_encoder(network, names, found, path)
        return
    try:
        found = getattr(network, "translated", _translated)(found)
    except ValueError as error:
        raise ValueError(f"the weights {path} belong to another network; {error}") from error
    head = list(expected)[-2:]  # each network ends in the weight and bias of one layer
    for name in list(expected):
        fits = name in found and found[name].shape == expected[name].shape
        absent_count = name.endswith(_COUNT) and name not in found
        if not fits and (name in head or absent_count):
            found[name] = expected[name]
        elif not fits:
            raise ValueError(f"the weights {path} belong to another network; {name} does not fit")
    if surplus := sorted(found.keys() - expected.keys()):
        raise ValueError(
            f"the weights {path} belong to another network; this one does not have {surplus[0]}"
        )
    with torch.no_grad():
        network.load_state_dict(found)


def _load_encoder(
    network: nn.Module, names: dict[str, str], found: dict[str, torch.Tensor], path: Path
) -> None:
    """Copy a published classifier's tensors into a segmenter's encoder, in place.

    Args:
        network: The segmenter.
        names: Published name of each tensor of the encoder, by its own name.
        found: Tensors of the file.
        path: The file, for messages.

    Raises:
        ValueError: A tensor is missing or has another shape.
    """
    expected = network.state_dict()
    for own, published in names.items():
        if published in found and found[published].shape == expected[own].shape:
            expected[own] = found[published]
        elif not own.endswith(_COUNT):
            raise ValueError(
                f"the weights {path} belong neither to this network nor to its encoder;"
                f" {published} does not fit"
            )
    with torch.no_grad():
        network.load_state_dict(expected)


def _translated(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the tensors of torchvision's DenseNet as MONAI does; return others unchanged."""
    renamed = ((_DENSE_LAYER.sub(r"\1.layers.\2\3.", name), t) for name, t in found.items())
    return {re.sub(r"^classifier\.", "class_layers.out.", name): t for name, t in renamed}
