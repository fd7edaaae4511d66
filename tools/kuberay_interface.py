"""Write which fields KubeRay accepts, by what it publishes, for the test of our manifests.

    python -m tools.kuberay_interface FOLDER

FOLDER holds, of one release of github.com/ray-project/kuberay, the custom resource definition
`ray.io_rayclusters.yaml`, and the `values.yaml` of its two charts as `ray-cluster.values.yaml` and
`kuberay-operator.values.yaml`. Only names and types are kept.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

_WRITTEN = Path(__file__).parents[1] / "tests" / "packaging" / "kuberay.json"
_NOT_A_RULE = frozenset({"description", "default", "title", "example"})
_SHORT = 200  # characters; a schema that is repeated is written once if it is longer
_SECTIONS = ("image", "common", "head", "worker")  # whose keys are the chart's own


def main(folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)]) -> None:
    """Write tests/packaging/kuberay.json from the files of a KubeRay release."""
    definition = yaml.load(
        (folder / "ray.io_rayclusters.yaml").read_text(), Loader=yaml.CSafeLoader
    )
    chart = (folder / "ray-cluster.values.yaml").read_text()
    operator = yaml.safe_load((folder / "kuberay-operator.values.yaml").read_text())
    (group,) = yaml.safe_load(chart)["additionalWorkerGroups"].values()
    found = {
        "release": operator["image"]["tag"],
        "ray_cluster": ray_cluster_schema(definition),
        "chart_keys": sorted(chart_keys(chart)),
        "worker_group_keys": sorted(group),
        "operator_gates": sorted(gate["name"] for gate in operator["featureGates"]),
    }
    _WRITTEN.write_text(json.dumps(found, separators=(",", ":"), sort_keys=True) + "\n")


def ray_cluster_schema(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of a RayCluster v1 that a custom resource definition holds.

    A part that occurs several times, such as a pod, is in its `$defs` once.
    """
    (version,) = (each for each in definition["spec"]["versions"] if each["name"] == "v1")
    schema = _rules(version["schema"]["openAPIV3Schema"])
    often = {text for text, times in Counter(map(_text, _parts(schema))).items() if times > 1}
    names: dict[str, str] = {}
    parts: dict[str, Any] = {}

    def shared(part: Any, *, are_fields: bool = False) -> Any:
        if isinstance(part, list):
            return [shared(each) for each in part]
        if not isinstance(part, dict):
            return part
        within = {
            key: shared(value, are_fields=key == "properties" and not are_fields)
            for key, value in part.items()
        }
        text = _text(part)
        if are_fields or text not in often or len(text) < _SHORT:
            return within
        name = names.setdefault(text, f"part{len(names)}")
        parts[name] = within
        return {"$ref": f"#/$defs/{name}"}

    return {**shared(schema), "$defs": parts}


def chart_keys(values: str) -> set[str]:
    """Return the keys that a chart's values.yaml has or names in a comment."""
    found = set(keys_of_values(yaml.safe_load(values)))
    section = ""
    for line in values.splitlines():
        if top := re.match(r"(\w+):", line):
            section = top[1]
        if commented := re.match(r"  # ([a-z]\w*):(?!//)", line):
            found.add(f"{section}.{commented[1]}")
    return found


def keys_of_values(values: dict[str, Any], before: str = "") -> Iterator[str]:
    """Generate the paths of a chart's own keys; what Kubernetes defines is below them."""
    for key, value in values.items():
        yield f"{before}{key}"
        if isinstance(value, dict) and before.count(".") < 1 and f"{before}{key}" in _SECTIONS:
            yield from keys_of_values(value, f"{before}{key}.")


def _rules(schema: Any, *, are_fields: bool = False) -> Any:
    """Leave out of a schema what accepts and refuses nothing; a field may have such a name."""
    if isinstance(schema, list):
        return [_rules(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _rules(value, are_fields=key == "properties" and not are_fields)
        for key, value in schema.items()
        if are_fields or key not in _NOT_A_RULE
    }


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    for each in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(each, dict | list):
            yield from _parts(each)


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, sort_keys=True)


if __name__ == "__main__":
    typer.run(main)
