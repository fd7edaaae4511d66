"""Pydantic models -> tables of their keys."""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from tools.docs.markdown import code, table


def allowed(schema: Mapping[str, Any]) -> str:
    """What a value may be, from its JSON schema."""
    if one_of := schema.get("anyOf", schema.get("oneOf")):
        kinds = [allowed(one) for one in one_of if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return " ".join(code(json.dumps(value)) for value in schema["enum"])
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "$ref" in schema:
        return (
            f"[{schema['$ref'].rpartition('/')[2]}](#{schema['$ref'].rpartition('/')[2].lower()})"
        )
    if schema.get("type") == "array":
        return _list(schema)
    return _scalar(schema)


def default_of(schema: Mapping[str, Any], *, required: bool) -> str:
    """The default as TOML has it; empty where there is none."""
    if required:
        return "required"
    default = schema.get("default")
    if default is None:
        return "not set"
    return code(json.dumps(default, ensure_ascii=False))


def model_tables(root: type[BaseModel]) -> str:
    """A section for the model and one for each model that it is made of."""
    schema = root.model_json_schema()
    known = {model.__name__: model for model in _models(root)}
    parts = []
    for name, part in [(root.__name__, schema), *schema.get("$defs", {}).items()]:
        if "properties" in part:
            parts.append(_section(name, part, known.get(name), schema.get("$defs", {})))
    return "\n\n".join(parts)


def attribute_notes(model: type[Any]) -> dict[str, str]:
    """What is said of each attribute: the string below it, or its line under `Attributes:`."""
    notes = _listed(inspect.getdoc(model) or "")
    tree = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    before: str | None = None
    for node in getattr(tree, "body", []):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            before = node.target.id
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            before = node.targets[0].id
        elif before and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            notes[before] = " ".join(str(node.value.value).split())
            before = None
        else:
            before = None
    return notes


def _section(
    name: str,
    schema: Mapping[str, Any],
    model: type[BaseModel] | None,
    parts: Mapping[str, Any],
) -> str:
    required = schema.get("required", ())
    notes = attribute_notes(model) if model is not None else {}
    rows = []
    for key, value in ((k, _inlined(v, parts)) for k, v in schema["properties"].items()):
        default = (
            _own_defaults(value, parts)
            if isinstance(value.get("default"), dict)
            else default_of(value, required=key in required)
        )
        rows.append([code(key), allowed(value), default, notes.get(key, "")])
    said = (model.__doc__ or "").partition("Attributes:")[0] if model is not None else ""
    text = inspect.cleandoc(said).strip() if said else ""
    return "\n\n".join([f"## {name}", text, table(["key", "allowed", "default", ""], rows)])


def _inlined(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with the choices that it refers to in its place; they have no section."""
    part = parts.get(str(schema.get("$ref")).rpartition("/")[2], {})
    return {"enum": part["enum"], **_without_ref(schema)} if "enum" in part else schema


def _without_ref(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in schema.items() if key != "$ref"}


def _own_defaults(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """What a nested section's default has that its own keys' defaults do not."""
    keys = parts.get(str(schema.get("$ref")).rpartition("/")[2], {}).get("properties", {})
    differing = {
        key: value
        for key, value in schema["default"].items()
        if key in keys and keys[key].get("default") != value and not isinstance(value, dict)
    }
    return ", ".join(code(f"{key} = {json.dumps(value)}") for key, value in differing.items())


def _models(root: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The model and all that its fields name, each once."""
    found: dict[str, type[BaseModel]] = {}
    waiting: list[Any] = [root]
    while waiting:
        kind = waiting.pop()
        waiting.extend(getattr(kind, "__args__", ()))
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind.__name__ not in found:
            found[kind.__name__] = kind
            waiting.extend(field.annotation for field in kind.model_fields.values())
    yield from found.values()


def _listed(doc: str) -> dict[str, str]:
    _, _, attributes = doc.partition("Attributes:\n")
    notes: dict[str, str] = {}
    names: list[str] = []
    for line in attributes.splitlines():
        if not line.startswith("    "):
            break
        if not line.startswith("     "):
            left, _, right = line.strip().partition(": ")
            names = [name.strip() for name in left.split(",")]
            notes.update(dict.fromkeys(names, right))
        else:
            notes.update({name: f"{notes[name]} {line.strip()}" for name in names})
    return notes


def _list(schema: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])} numbers"
    items = schema.get("items", {})
    return f"list of {allowed(items)}" if items else "list"


def _scalar(schema: Mapping[str, Any]) -> str:
    kind = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "`true` `false`",
        "object": "table",
    }.get(schema.get("type", ""), "")
    kind = {"path": "path", "uri": "http or https URL"}.get(schema.get("format", ""), kind)
    bounds = [
        f"{sign} {schema[key]:g}"
        for key, sign in (
            ("exclusiveMinimum", ">"),
            ("minimum", ">="),
            ("exclusiveMaximum", "<"),
            ("maximum", "<="),
        )
        if key in schema
    ]
    if "minLength" in schema:
        bounds.append(f"{schema['minLength']} characters or more")
    if "pattern" in schema:
        bounds.append(f"matches {code(schema['pattern'])}")
    return ", ".join(filter(None, [kind, *bounds]))
