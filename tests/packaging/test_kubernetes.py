"""The files for Kubernetes, checked against the schemas that Kubernetes and KubeRay publish.

Kubernetes drops a field that it does not know, so each schema is made to refuse it.
"""

import json
import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from her2d.settings import load_settings
from tools.kuberay_interface import keys_of_values

ROOT = Path(__file__).parents[2]
FILES = ROOT / "packaging" / "kubernetes"
KUBERNETES = "1.33"
# What a release of KubeRay accepts, from its published schemas by tools/kuberay_interface.py.
KUBERAY = json.loads(Path(__file__).with_name("kuberay.json").read_text())


@cache
def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FILES / name).read_text()))


def all_documents() -> list[dict[str, Any]]:
    names = [path.name for path in sorted(FILES.glob("*.yaml")) if ".values." not in path.name]
    return [document for name in names for document in documents(name)]


def document(kind: str, name: str = "her2d") -> dict[str, Any]:
    (found,) = (
        each for each in all_documents() if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )
    return found


CORE = [each for each in all_documents() if each["kind"] != "RayCluster"]


def problem(found: dict[str, Any]) -> str | None:
    """Return what Kubernetes would refuse or drop of a document."""
    try:
        kubernetes_validate.validate(found, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return None


def templates() -> dict[str, dict[str, Any]]:
    """The pods of the RayCluster, by their group."""
    spec = document("RayCluster")["spec"]
    return {
        "head": spec["headGroupSpec"]["template"],
        **{group["groupName"]: group["template"] for group in spec["workerGroupSpecs"]},
    }


def pod(template: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "a", **template.get("metadata", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def strict(schema: Any) -> Any:
    """Let a schema of Kubernetes refuse the fields that it does not name."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    refusing = {key: strict(value) for key, value in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and "type" in schema and not is_open:
        refusing["additionalProperties"] = False
    return refusing


@cache
def ray_cluster_schema() -> Any:
    return strict(KUBERAY["ray_cluster"])


def ray_problems(found: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(ray_cluster_schema())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(found)]


def test_there_is_what_a_cluster_needs():
    kinds = sorted({each["kind"] for each in all_documents()})
    assert kinds == [
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "RayCluster",
        "Service",
        "StatefulSet",
    ]


@pytest.mark.parametrize(
    "found", CORE, ids=lambda each: f"{each['kind']} {each['metadata']['name']}"
)
def test_kubernetes_accepts_every_field(found):
    assert problem(found) is None


@pytest.mark.parametrize("group", ["head", "cpu", "gpu"])
def test_kubernetes_accepts_every_field_of_the_pods_of_the_ray_cluster(group):
    assert problem(pod(templates()[group])) is None


def test_a_misspelt_field_is_refused_and_not_dropped():
    policy = deepcopy(document("NetworkPolicy", "her2d-ray"))
    policy["spec"]["ingres"] = policy["spec"].pop("ingress")
    assert "ingres" in str(problem(policy))
    misspelt = deepcopy(pod(templates()["cpu"]))
    misspelt["spec"]["containers"][0]["resource"] = {}
    assert "resource" in str(problem(misspelt))


def test_kuberay_accepts_the_ray_cluster_and_refuses_a_misspelt_field():
    ray_cluster = document("RayCluster")
    assert ray_problems(ray_cluster) == []
    for where, key in (
        (("spec",), "enableInTreeAutoscaler"),
        (("spec", "autoscalerOptions"), "idleTimeoutSecond"),
        (("spec", "headGroupSpec"), "rayStartParameters"),
        (("spec", "workerGroupSpecs", 0), "maxReplica"),
        (("spec", "workerGroupSpecs", 1, "template", "spec", "containers", 0), "volumeMount"),
    ):
        misspelt: Any = deepcopy(ray_cluster)
        part = misspelt
        for step in where:
            part = part[step]
        part[key] = "x"
        (found,) = ray_problems(misspelt)
        assert key in found
    wrong = deepcopy(ray_cluster)
    wrong["spec"]["workerGroupSpecs"][0]["maxReplicas"] = "eight"
    assert len(ray_problems(wrong)) == 1


# Helm


def test_the_chart_has_every_key_of_the_values():
    own = documents("ray-cluster.values.yaml")[0]
    known = set(KUBERAY["chart_keys"])
    assert set(keys_of_values(own)) <= known
    assert not {"worker.maxReplica", "head.enableInTreeAutoscaler"} & known
    for name, added in own["additionalWorkerGroups"].items():
        # The chart's template reads `image` of a group, which its example lacks.
        assert set(added) - {"image"} <= set(KUBERAY["worker_group_keys"]), name


def test_the_operator_has_the_gate_that_tls_needs():
    (own,) = documents("kuberay-operator.values.yaml")
    assert {gate["name"] for gate in own["featureGates"]} <= set(KUBERAY["operator_gates"])


def test_the_values_make_the_same_pods_as_the_manifest():
    (values,) = documents("ray-cluster.values.yaml")
    spec = document("RayCluster")["spec"]
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    for of_values, group in (
        (values["worker"], groups["cpu"]),
        (values["additionalWorkerGroups"]["gpu"], groups["gpu"]),
        (values["head"], spec["headGroupSpec"]),
    ):
        pod_spec = group["template"]["spec"]
        container = pod_spec["containers"][0]
        assert of_values["resources"] == container["resources"]
        assert of_values["securityContext"] == container["securityContext"]
        assert of_values["podSecurityContext"] == pod_spec["securityContext"]
        assert of_values["volumes"] == pod_spec["volumes"]
        assert of_values["volumeMounts"] == container["volumeMounts"]
        assert of_values["rayStartParams"] == group["rayStartParams"]


# What the files say together


def containers() -> list[dict[str, Any]]:
    pods = [*templates().values(), document("StatefulSet")["spec"]["template"]]
    return [container for each in pods for container in each["spec"]["containers"]]


def test_no_port_of_a_machine_is_opened_and_no_service_leaves_kubernetes():
    text = "".join(path.read_text() for path in FILES.glob("*.yaml"))
    assert not re.search(r"hostPort|hostNetwork|NodePort|LoadBalancer|privileged", text)
    assert document("RayCluster")["spec"]["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_every_container_runs_without_rights_and_writes_only_to_its_volumes():
    for container in containers():
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


def test_no_secret_is_in_a_file():
    for container in containers():
        for variable in container.get("env", []):
            is_secret = re.search("TOKEN|SECRET|PASSWORD", variable["name"])
            assert not is_secret or "value" not in variable, variable["name"]


def test_ports_of_ray_are_reached_by_its_own_pods_the_daemon_and_the_operator_only():
    policies = [each for each in all_documents() if each["kind"] == "NetworkPolicy"]
    assert all(each["spec"]["policyTypes"] == ["Ingress", "Egress"] for each in policies)
    head = document("NetworkPolicy", "her2d-ray-head")["spec"]["ingress"]
    assert {port["port"] for rule in head for port in rule["ports"]} == {10001, 8265}
    daemon = document("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    labels = head[0]["from"][0]["podSelector"]["matchLabels"]
    assert labels.items() <= daemon.items()


def test_the_daemons_settings_are_accepted_and_an_engine_fits_a_pod_exactly(monkeypatch, tmp_path):
    (container,) = document("StatefulSet")["spec"]["template"]["spec"]["containers"]
    for variable in container["env"]:
        if variable["name"].startswith("HER2D_"):
            monkeypatch.setenv(variable["name"], variable["value"])
    monkeypatch.chdir(tmp_path)
    cluster = load_settings(None).cluster
    assert cluster.autoscales
    assert cluster.address == "ray://her2d-head-svc:10001"
    for name, gpus in (("cpu", 0), ("gpu", 1)):
        limits = templates()[name]["spec"]["containers"][0]["resources"]["limits"]
        assert int(limits["cpu"]) == cluster.actor_cpus
        assert int(limits.get("nvidia.com/gpu", 0)) == gpus
    pods = document("RayCluster")["spec"]["workerGroupSpecs"][0]["maxReplicas"]
    assert -(-cluster.most_slides // 2) == pods  # [pipeline] slides_in_flight


def test_daemon_and_nodes_see_scans_and_bundles_at_the_same_path_and_cannot_change_them():
    pods = [document("StatefulSet")["spec"]["template"], templates()["cpu"], templates()["gpu"]]
    places = []
    for each in pods:
        mounts = {m["name"]: m for m in each["spec"]["containers"][0]["volumeMounts"]}
        assert mounts["scans"]["readOnly"]
        assert mounts["bundles"]["readOnly"]
        places.append((mounts["scans"]["mountPath"], mounts["bundles"]["mountPath"]))
    assert len(set(places)) == 1


def test_the_nodes_have_the_ray_that_her2d_is_tested_with():
    (version,) = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert document("RayCluster")["spec"]["rayVersion"] == version
    assert documents("ray-cluster.values.yaml")[0]["head"]["rayVersion"] == version
