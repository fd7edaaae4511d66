"""Write a bundle of the paper's size (SegNet, five ResNet50) with random weights.

Usage: full_size.py FOLDER
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1] / "doubles")]

from inference_bundles import write_bundle

write_bundle(Path(sys.argv[1]), segmenter_width=1.0, classifier="resnet50", classifier_width=1.0)
