"""her2d reads HER2 status from gastric-cancer H&E whole-slide images, unattended.

An implementation of HER2Net (Liao et al., Advanced Science 2025, 10.1002/advs.202408451).
"""

import os

__version__ = "0.1.0"

# From its import on, ONNX Runtime tells Microsoft of the machine it runs on. A hospital's must tell
# nobody, whatever the environment says.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
