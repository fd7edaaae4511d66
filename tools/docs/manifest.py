"""A bundle's manifest and a study's recipe, from their models."""

from her2d.bundle.manifest import Manifest
from her2d.research.training.recipe import Recipe
from tools.docs.markdown import block, introduction, page
from tools.docs.models import model_tables


def manifest_page(shipped: str) -> str:
    """The page `reference/manifest.md`; `shipped` is the shipped bundle's manifest."""
    return page(
        "Bundle manifest", introduction("manifest"), block(shipped, "toml"), model_tables(Manifest)
    )


def recipe_page() -> str:
    """The page `reference/recipe.md`."""
    return page("Training recipe", introduction("recipe"), model_tables(Recipe))
