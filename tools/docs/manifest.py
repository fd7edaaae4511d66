"""A bundle's manifest, its calibration and a study's recipe, from their models."""

from her2d.bundle.manifest import Manifest
from her2d.bundle.site_calibration import SiteCalibration
from her2d.research.training.recipe import Recipe
from tools.docs.example_site import ExampleSite
from tools.docs.markdown import block, introduction, page
from tools.docs.models import model_tables


def manifest_page(shipped: str) -> str:
    """The page `reference/manifest.md`; `shipped` is the shipped bundle's manifest."""
    return page(
        "Bundle manifest", introduction("manifest"), block(shipped, "toml"), model_tables(Manifest)
    )


def calibration_page(site: ExampleSite) -> str:
    """The page `reference/calibration.md`, with the file that her2d writes there."""
    return page(
        "Calibration file",
        introduction("calibration"),
        block(site.calibration(), "toml"),
        model_tables(SiteCalibration),
    )


def recipe_page() -> str:
    """The page `reference/recipe.md`."""
    return page("Training recipe", introduction("recipe"), model_tables(Recipe))
