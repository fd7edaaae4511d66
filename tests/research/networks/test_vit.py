"""Vision Transformers as published, on tiles of 512 pixels."""

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from her2d.research.networks.build import build_classifier
from her2d.research.networks.resnet import resnet
from her2d.research.networks.vit import VisionTransformer
from her2d.research.networks.weights import save_weights

NARROW = 1 / 12


@pytest.mark.parametrize(
    ("name", "patch", "parameters"), [("vit_b_16", 16, 86_567_656), ("vit_b_32", 32, 88_224_232)]
)
def test_with_a_thousand_classes_the_parameters_are_the_published_number(name, patch, parameters):
    with torch.device("meta"):
        network = VisionTransformer(name, classes=1000)
    # A tile has more patches than a picture of ImageNet, and the token has no position of its own.
    positions = 768 * ((512 // patch) ** 2 - (224 // patch) ** 2 - 1)
    assert sum(p.numel() for p in network.parameters()) == parameters + positions


@pytest.mark.parametrize(("width", "channels", "heads"), [(0.5, 384, 6), (0.25, 192, 3)])
def test_narrower_ones_are_vit_s_and_vit_ti(width, channels, heads):
    with torch.device("meta"):
        network = VisionTransformer("vit_b_16", width_multiplier=width)
    assert network.vit.blocks[0].attn.num_heads == heads
    assert network.vit.norm.normalized_shape == (channels,)


def test_a_tile_and_a_crop_have_two_classes():
    network = build_classifier("vit_b_32", width_multiplier=NARROW)
    assert network(torch.zeros(1, 3, 512, 512)).shape == (1, 2)
    assert network(torch.zeros(2, 3, 64, 96)).shape == (2, 2)


def test_every_weight_learns_so_that_several_gpus_can_train_it():
    network = build_classifier("vit_b_32", width_multiplier=NARROW)
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


class Published(nn.Module):
    """A ViT for pictures of `side` pixels with torchvision's names, on torch's own attention."""

    def __init__(self, side: int, channels: int, layers: int = 12) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.randn(1, 1, channels))
        self.conv_proj = nn.Conv2d(3, channels, 32, 32)
        self.encoder = nn.Module()
        self.encoder.pos_embedding = nn.Parameter(torch.randn(1, (side // 32) ** 2 + 1, channels))
        self.encoder.ln = nn.LayerNorm(channels, eps=1e-6)
        self.encoder.layers = nn.ModuleDict(
            {f"encoder_layer_{number}": PublishedLayer(channels) for number in range(layers)}
        )
        self.heads = nn.ModuleDict({"head": nn.Linear(channels, 2)})

    def forward(self, x: Tensor) -> Tensor:
        patches = self.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), patches], dim=1)
        x = x + self.encoder.pos_embedding
        for layer in self.encoder.layers.values():
            x = layer(x)
        return self.heads["head"](self.encoder.ln(x)[:, 0])


class PublishedLayer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = (nn.LayerNorm(channels, eps=1e-6) for _ in range(2))
        self.self_attention = nn.MultiheadAttention(channels, 1, batch_first=True)
        wide = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.mlp = nn.ModuleDict({"linear_1": wide[0], "linear_2": wide[1]})
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.2)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.self_attention(normed, normed, normed, need_weights=False)[0]
        return x + self.mlp["linear_2"](nn.functional.gelu(self.mlp["linear_1"](self.ln_2(x))))


@pytest.fixture
def saved(tmp_path):
    """Save a network's tensors, some under other names."""

    def save(network: nn.Module, renamed: dict[str, str] | None = None):
        tensors = {}
        for name, tensor in network.state_dict().items():
            for own, other in (renamed or {}).items():
                name = name.replace(own, other)  # noqa: PLW2901
            tensors[name] = tensor.contiguous()
        save_file(tensors, tmp_path / "w.safetensors")
        return tmp_path / "w.safetensors"

    return save


@pytest.mark.parametrize("renamed", [{}, {"linear_1": "0", "linear_2": "3"}])
def test_with_torchvisions_weights_it_computes_the_published_network(saved, renamed):
    torch.manual_seed(0)
    published = Published(512, 64).eval()
    network = build_classifier(
        "vit_b_32", width_multiplier=NARROW, weights=saved(published, renamed)
    ).eval()
    picture = torch.rand(2, 3, 512, 512)
    with torch.no_grad():
        assert torch.allclose(network(picture), published(picture), atol=1e-4)


def test_positions_of_a_smaller_picture_are_interpolated(saved):
    published = Published(224, 64)
    network = build_classifier("vit_b_32", width_multiplier=NARROW, weights=saved(published))
    own = network.vit.patch_embedding.position_embeddings.unflatten(1, (16, 16))
    theirs = published.encoder.pos_embedding[:, 1:].unflatten(1, (7, 7))
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert torch.allclose(own[:, *corner], theirs[:, *corner], atol=1e-5)
    assert not torch.equal(own[:, 0, 1], own[:, 0, 0])


def test_weights_of_another_patch_are_refused_by_name(saved):
    published = Published(224, 64)
    weights = saved(published)
    with pytest.raises(ValueError, match=r"another network; vit\.patch_embedding.* does not fit"):
        build_classifier("vit_b_16", width_multiplier=NARROW, weights=weights)


def test_positions_that_are_not_square_are_refused(saved):
    published = Published(224, 64)
    published.encoder.pos_embedding = nn.Parameter(torch.zeros(1, 48, 64))
    with pytest.raises(ValueError, match="positions are not those of a square picture"):
        build_classifier("vit_b_32", width_multiplier=NARROW, weights=saved(published))


def test_a_resnets_weights_are_refused(tmp_path):
    save_weights(resnet("resnet18", width_multiplier=1 / 8), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="belong to another network"):
        build_classifier("vit_b_32", width_multiplier=NARROW, weights=tmp_path / "w.safetensors")
