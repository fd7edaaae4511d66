"""DenseNet121 (Huang et al. 2017, 10.1109/CVPR.2017.243), built from MONAI's blocks."""

from monai.networks.nets.densenet import DenseNet

_FEATURES, _GROWTH = 64, 32


def densenet121(*, classes: int = 2, width_multiplier: float = 1.0) -> DenseNet:
    """Build DenseNet121, one of the paper's tile classifiers (section 4.4, Table S2).

    Args:
        classes: Number of outputs.
        width_multiplier: Scales the initial features and the growth rate; 1.0 is the published
            network.

    Returns:
        A module that maps float32 (N, 3, H, W) to logits float32 (N, classes).
    """
    return DenseNet(
        spatial_dims=2,
        in_channels=3,
        out_channels=classes,
        init_features=max(4, round(_FEATURES * width_multiplier)),
        growth_rate=max(1, round(_GROWTH * width_multiplier)),
        block_config=(6, 12, 24, 16),
    )
