"""What the tool keeps of the files that KubeRay publishes."""

import jsonschema

from tools.kuberay_interface import chart_keys, ray_cluster_schema

NAMED_POD = {
    "type": "object",
    "description": "A pod, in many words.",
    "properties": {
        "description": {"type": "string", "description": "A field of that name."},
        **{f"field{number}": {"type": "string"} for number in range(9)},
    },
}
DEFINITION = {
    "spec": {
        "versions": [
            {"name": "v1alpha1", "schema": {}},
            {
                "name": "v1",
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "required": ["head"],
                        "properties": {"head": NAMED_POD, "worker": NAMED_POD},
                    }
                },
            },
        ]
    }
}


def problems(schema, found):
    return [error.json_path for error in jsonschema.Draft202012Validator(schema).iter_errors(found)]


def test_the_schema_accepts_and_refuses_as_the_published_one_does():
    schema = ray_cluster_schema(DEFINITION)
    assert problems(schema, {"head": {"field1": "a", "description": "b"}}) == []
    assert problems(schema, {"head": {"field1": 1}, "worker": {"description": 2}}) == [
        "$.head.field1",
        "$.worker.description",
    ]
    assert problems(schema, {"worker": {}}) == ["$"]


def test_no_sentences_are_kept_and_a_part_that_is_repeated_is_kept_once():
    text = str(ray_cluster_schema(DEFINITION))
    assert "words" not in text
    assert text.count("field8") == 1


def test_keys_that_a_chart_only_names_in_a_comment_are_keys_and_its_sentences_are_not():
    values = "head:\n  # Note: see\n  # https://example.org\n  # initContainers: []\n  args: []\n"
    assert chart_keys(values) == {"head", "head.args", "head.initContainers"}
