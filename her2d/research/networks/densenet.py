"""DenseNet121 (Huang et al. 2017, 10.1109/CVPR.2017.243) from MONAI."""

from monai.networks.nets.densenet import DenseNet

_FEATURES, _GROWTH = 64, 32


def densenet121(*, classes: int = 2, width_multiplier: float = 1.0) -> DenseNet:
    """float (N, 3, H, W) -> logits float (N, classes).

    Args:
        classes: outputs.
        width_multiplier: scales the first features and the growth rate; 1.0 is as published.
    """
    return DenseNet(
        spatial_dims=2,
        in_channels=3,
        out_channels=classes,
        init_features=max(4, round(_FEATURES * width_multiplier)),
        growth_rate=max(1, round(_GROWTH * width_multiplier)),
        block_config=(6, 12, 24, 16),
    )
