"""What /metrics serves, from the metrics themselves and a reading that fills every series."""

import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from prometheus_client.metrics import MetricWrapperBase

from her2d.monitoring.metrics import Metrics
from her2d.monitoring.reading import Reading
from tools.docs.markdown import code, introduction, page, table


@dataclass(frozen=True, slots=True)
class Family:
    """One metric as Prometheus sees it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def families() -> list[Family]:
    """Every metric that the daemon may serve, by name."""
    metrics = Metrics()
    own = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    labels = {metric.name: one._labelnames for one in own for metric in one.describe()}
    metrics.read_from(lambda: _filled(Reading))
    found = []
    for metric in metrics.registry.collect():
        seen = {label for sample in metric.samples for label in sample.labels} - {"le"}
        named = labels.get(metric.name) or tuple(sorted(seen))
        suffix = {"counter": "_total", "info": "_info"}.get(metric.type, "")
        found.append(Family(metric.name + suffix, metric.type, named, metric.documentation))
    return sorted(found, key=lambda family: family.name)


def metrics_page() -> str:
    """The page `reference/metrics.md`."""
    rows = [
        [code(f.name), f.kind, " ".join(map(code, f.labels)), f.help]
        for f in families()
        if f.name.startswith("her2d_")
    ]
    others = ", ".join(code(f.name) for f in families() if not f.name.startswith("her2d_"))
    return page(
        "HTTP and metrics",
        introduction("metrics"),
        "## Metrics",
        table(["metric", "kind", "labels", "what it says"], rows),
        f"Of the process, by Prometheus' own client: {others}.",
    )


def _filled(kind: Any) -> Any:
    """A value of that type in which nothing is missing."""
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{field.name: _filled(hints[field.name]) for field in fields(kind)})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _filled(next(one for one in arguments if one is not type(None)))
    if origin is tuple:
        return (_filled(arguments[0]),)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {_filled(arguments[0]): _filled(arguments[1])}
    return {str: "x", bool: True}.get(kind, 1)
