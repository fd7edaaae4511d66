"""Vision Transformers (Dosovitskiy et al. 2021, arXiv:2010.11929), built from MONAI's blocks.

HER2Net's paper compares convolutional networks only; these are her2d's baseline beside them. A tile
of 512 x 512 pixels has 1,024 patches of 16 pixels or 256 of 32, where ImageNet's pictures have 196
or 49. Attention compares each patch with every other, so that ViT-B/16 takes five times as long for
a tile as ResNet50, and ViT-B/32 as long.
"""

import re
from typing import Literal

import torch
from monai.networks.nets.vit import ViT
from torch import Tensor, nn
from torch.nn import functional

from her2d.method import TILE_PX

VitName = Literal["vit_b_16", "vit_b_32"]

_PATCH_PX = {"vit_b_16": 16, "vit_b_32": 32}
_HEADS, _LAYERS = 12, 12
_CHANNELS_OF_HEAD = 64
_EPSILON = 1e-6  # of the published networks; torch's default is 1e-5
_CLASS_TOKEN, _POSITIONS = "vit.cls_token", "vit.patch_embedding.position_embeddings"
_PUBLISHED_POSITIONS = "encoder.pos_embedding"
_NAMES = (
    (r"^class_token$", _CLASS_TOKEN),
    (r"^conv_proj\.", "vit.patch_embedding.patch_embeddings."),
    (r"^encoder\.ln\.", "vit.norm."),
    (r"^heads\.head\.", "vit.classification_head."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"vit.blocks.\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.", ".attn."),
    (r"\.ln_([12])\.", r".norm\1."),
    # "mlp.linear_1" in the published files, "mlp.0" in what torchvision saves.
    (r"\.mlp\.(?:linear_1|0)\.", ".mlp.linear1."),
    (r"\.mlp\.(?:linear_2|3)\.", ".mlp.linear2."),
)


class VisionTransformer(nn.Module):
    """A Vision Transformer as a tile classifier.

    Maps float32 (N, 3, H, W), H and W multiples of the patch, to logits float32 (N, classes). The
    position embedding is that of whole tiles; it is interpolated for crops.

    Args:
        name: `vit_b_16` or `vit_b_32`, with patches of 16 or 32 pixels.
        classes: Number of outputs.
        width_multiplier: Scales the number of heads, of 64 channels each; 1.0 is the published
            network, and 0.5 and 0.25 are ViT-S and ViT-Ti.
    """

    def __init__(self, name: VitName, *, classes: int = 2, width_multiplier: float = 1.0) -> None:
        super().__init__()
        heads = max(1, round(_HEADS * width_multiplier))
        width = heads * _CHANNELS_OF_HEAD
        self.vit = ViT(
            in_channels=3,
            img_size=TILE_PX,
            patch_size=_PATCH_PX[name],
            hidden_size=width,
            mlp_dim=4 * width,
            num_layers=_LAYERS,
            num_heads=heads,
            classification=True,
            num_classes=classes,
            spatial_dims=2,
            post_activation="none",  # MONAI's default puts a tanh behind the logits
            qkv_bias=True,
        )
        for block in self.vit.blocks:
            block.norm_cross_attn = nn.Identity()  # MONAI's, which nothing uses
            for layer in block.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)
        for layer in self.modules():
            if isinstance(layer, nn.LayerNorm):
                layer.eps = _EPSILON

    def features(self, x: Tensor) -> Tensor:
        """Map float32 (N, 3, H, W) to what the last layer reads, float32 (N, channels)."""
        patches = self.vit.patch_embedding.patch_embeddings(x)
        tokens = patches.flatten(2).transpose(1, 2) + self._positions(patches.shape[2:])
        tokens = torch.cat([self.vit.cls_token.expand(x.shape[0], -1, -1), tokens], dim=1)
        for block in self.vit.blocks:
            tokens = block(tokens)
        return torch.as_tensor(self.vit.norm(tokens)[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.vit.classification_head(self.features(x)))

    def translated(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename the tensors of a ViT that torchvision publishes; return others unchanged.

        The position of its class token, which is not a patch, is added to the token. Positions of
        another number of patches are interpolated.

        Raises:
            ValueError: The positions are not those of a square picture.
        """
        if _PUBLISHED_POSITIONS not in found:
            return found
        positions = found[_PUBLISHED_POSITIONS]
        side = round(max(0, positions.shape[1] - 1) ** 0.5)
        if positions.ndim != 3 or side == 0 or side**2 + 1 != positions.shape[1]:
            raise ValueError("its positions are not those of a square picture")
        own = self.vit.patch_embedding.position_embeddings
        renamed = {
            _renamed(name): tensor for name, tensor in found.items() if name != _PUBLISHED_POSITIONS
        }
        wanted = round(own.shape[1] ** 0.5)
        renamed[_POSITIONS] = _interpolated(positions[:, 1:], (side, side), (wanted, wanted))
        if _CLASS_TOKEN in renamed:
            renamed[_CLASS_TOKEN] = renamed[_CLASS_TOKEN] + positions[:, :1]
        return renamed

    def _positions(self, grid: torch.Size) -> Tensor:
        own: Tensor = self.vit.patch_embedding.position_embeddings
        side = round(own.shape[1] ** 0.5)
        if tuple(grid) == (side, side):
            return own
        return _interpolated(own, (side, side), (int(grid[0]), int(grid[1])))


def _interpolated(positions: Tensor, grid: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
    """Resize positions, (1, rows x columns, channels), from one grid of patches to another."""
    if grid == wanted:
        return positions
    as_image = positions.transpose(1, 2).reshape(1, -1, *grid)
    # As torchvision interpolates them.
    resized = functional.interpolate(as_image, size=wanted, mode="bicubic", align_corners=True)
    return resized.flatten(2).transpose(1, 2)


def _renamed(name: str) -> str:
    for published, own in _NAMES:
        name = re.sub(published, own, name)
    return name
