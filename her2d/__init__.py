"""her2d reads HER2 status from gastric-cancer H&E whole-slide images, unattended.

An implementation of HER2Net (Liao et al., Advanced Science 2025, 10.1002/advs.202408451).
"""

__version__ = "0.1.0"
