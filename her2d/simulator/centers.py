"""Centres that slides come from, each with its own stain, optics, sensor and tone curve."""

from dataclasses import dataclass

Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Center:
    """A laboratory and its scanner.

    Attributes:
        name: as in the cohort's table.
        hematoxylin, eosin: optical density of the dyes in R, G and B; their length does not count.
        stain_spread: standard deviation of these vectors between slides.
        stain_strength: least and greatest strength of a slide's dyes.
        blur: standard deviation of the optics' blur, in pixels.
        noise: range of the sensor's noise, in grey levels.
        white: how the sensor shows glass, in R, G and B.
        gamma: exponent of the tone curve; 1 shows transmitted light as it is.
    """

    name: str
    hematoxylin: Rgb
    eosin: Rgb
    stain_spread: float
    stain_strength: tuple[float, float]
    blur: float
    noise: float
    white: Rgb
    gamma: float


LIGHT = 244.0
"""The grey level of glass before the tone curve."""

REFERENCE = Center(
    name="one",
    hematoxylin=(0.65, 0.70, 0.29),
    eosin=(0.10, 0.93, 0.34),
    stain_spread=0.03,
    stain_strength=(0.82, 1.2),
    blur=0.55,
    noise=5.0,
    white=(LIGHT, LIGHT, LIGHT),
    gamma=1.0,
)
"""The dyes of Ruifrok and Johnston (2001), and a scanner that changes little."""

SECOND = Center(
    name="two",
    hematoxylin=(0.56, 0.75, 0.35),
    eosin=(0.17, 0.90, 0.41),
    stain_spread=0.03,
    stain_strength=(0.72, 1.12),
    blur=0.85,
    noise=9.0,
    white=(241.0, 239.0, 244.0),
    gamma=1.2,
)
"""A redder, paler stain, and a scanner that is less sharp, has more noise and more contrast."""
