"""The models of a study with their literature and code (paper, Table S5)."""

from collections.abc import Iterable, Mapping

from her2d.research.evaluation.rows import Row


class ReferenceRow(Row):
    """One model in Table S5.

    Attributes:
        kind: `segmenter`, `classifier` or `integrator`.
        name: Name of the model in the recipe.
        method: Its name in the literature; None if it is not listed here.
        literature, code: Where it is described, and what it is computed with.
    """

    kind: str
    name: str
    method: str | None
    literature: str
    code: str


_HERE, _MONAI = "her2d.research.networks", "her2d.research.networks, MONAI"
_SKLEARN = "scikit-learn"
_HE = "He et al. 2016, CVPR, 770"
_FRIEDMAN = "Friedman 2001, Ann. Statist. 29, 1189"

_MODELS: Mapping[str, tuple[str, str, str]] = {
    "unet": ("U-Net", "Ronneberger et al. 2015, MICCAI, 234", _HERE),
    "segnet": ("SegNet", "Badrinarayanan et al. 2017, IEEE TPAMI 39, 2481", _HERE),
    "deeplabv3plus": ("DeepLabv3+", "Chen et al. 2018, ECCV, 801", _HERE),
    **{f"resnet{depth}": (f"ResNet{depth}", _HE, _MONAI) for depth in (18, 34, 50, 101, 152)},
    "densenet121": ("DenseNet121", "Huang et al. 2017, CVPR, 4700", _MONAI),
    **{
        f"vit_b_{patch}": (f"Vision Transformer B/{patch}", "Dosovitskiy et al. 2021, ICLR", _HERE)
        for patch in (16, 32)
    },
    "lr": ("Logistic regression", "Cox 1958, J. R. Stat. Soc. B 20, 215", _SKLEARN),
    "dt": ("Decision tree", "Breiman et al. 1984, CART", _SKLEARN),
    "svm": ("Support vector machine", "Cortes and Vapnik 1995, Mach. Learn. 20, 273", _SKLEARN),
    "rf": ("Random forest", "Breiman 2001, Mach. Learn. 45, 5", _SKLEARN),
    "adaboost": ("AdaBoost", "Freund and Schapire 1997, J. Comput. Syst. Sci. 55, 119", _SKLEARN),
    "gbdt": ("Gradient-boosted decision trees", _FRIEDMAN, _SKLEARN),
    "xgboost": ("XGBoost", "Chen and Guestrin 2016, KDD, 785", "xgboost"),
    "soft_voting": ("Soft voting", "Kittler et al. 1998, IEEE TPAMI 20, 226", _SKLEARN),
    "mean": (
        "Mean of the five",
        "nothing is fitted",
        "her2d.bundle.mean_of_folds",
    ),
    "attention MIL": ("Gated-attention MIL", "Ilse et al. 2018, ICML, 2127", _HERE),
}


def reference_rows(models: Iterable[tuple[str, str]]) -> tuple[ReferenceRow, ...]:
    """Make Table S5 for the models of a study.

    A model that is not listed keeps its row, so that the table holds every model of the study.

    Args:
        models: Kind and name of each model.
    """
    rows = []
    for kind, name in models:
        method, literature, code = _MODELS.get(name, (None, "", ""))
        rows.append(
            ReferenceRow(kind=kind, name=name, method=method, literature=literature, code=code)
        )
    return tuple(rows)
