"""U-Net (Ronneberger et al. 2015, 10.1007/978-3-319-24574-4_28).

Written here because MONAI's BasicUNet keeps more channels in its last up-convolution than the
published network, and MONAI's UNet is residual. Convolutions are padded, unlike the published ones,
so that a mask has the size of its tile. Weights are initialised as the U-Net paper prescribes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

_CHANNELS = (64, 128, 256, 512, 1024)


class UNet(nn.Module):
    """U-Net as one of the paper's segmenters (section 4.3, Table S1).

    Maps float32 (N, 3, H, W), H and W multiples of 16, to class logits float32 (N, classes, H, W).

    Args:
        classes: Number of output channels.
        width_multiplier: Scales every hidden channel count; 1.0 is the published network.
    """

    def __init__(self, classes: int = 2, width_multiplier: float = 1.0) -> None:
        super().__init__()
        channels = [max(1, round(c * width_multiplier)) for c in _CHANNELS]
        self.down = nn.ModuleList(
            _double(before, after)
            for before, after in zip([3, *channels[:-1]], channels, strict=True)
        )
        shallower = channels[-2::-1]
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, shallow, kernel_size=2, stride=2)
            for deep, shallow in zip(channels[:0:-1], shallower, strict=True)
        )
        self.merge = nn.ModuleList(_double(2 * shallow, shallow) for shallow in shallower)
        self.head = nn.Conv2d(channels[0], classes, kernel_size=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        features: list[Tensor] = []
        for stage in self.down:
            x = stage(functional.max_pool2d(x, 2) if features else x)
            features.append(x)
        for up, merge, skipped in zip(self.up, self.merge, features[-2::-1], strict=True):
            x = merge(torch.cat([skipped, up(x)], dim=1))
        return torch.as_tensor(self.head(x))


def _double(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1),
        nn.ReLU(),
    )
