"""What `her2d doctor` can find, from the source of its checks."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import her2d.doctor
from her2d.doctor.units import CARE, DAEMON, TIMER, edit
from tools.docs.markdown import introduction, page, table

_ROOM = Path(her2d.doctor.__file__).parent
_UNITS = {"DAEMON": DAEMON, "CARE": CARE, "TIMER": TIMER}
_SEVERITIES = ("failure", "warning")


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding that is a problem.

    Attributes:
        severity: failure or warning.
        message: what was found; a value that depends on the machine is its expression in braces.
        remedy: what to do, likewise.
    """

    severity: str
    message: str
    remedy: str


def problems() -> dict[str, list[Problem]]:
    """Return the problems of each module whose sentences are written in it, by its summary."""
    found: dict[str, list[Problem]] = {}
    for path in sorted(_ROOM.glob("*.py")):
        tree = ast.parse(path.read_text())
        summary = (ast.get_docstring(tree) or "").partition("\n")[0].rstrip(".")
        if of_module := list(_problems_of(tree)):
            found[summary] = of_module
    return found


def doctor_page() -> str:
    """The page `reference/doctor.md`."""
    parts = [introduction("doctor")]
    for summary, of_module in problems().items():
        rows = [[each.severity, each.message, each.remedy] for each in of_module]
        parts += [f"## {summary}", table(["status", "found", "what to do"], rows)]
    return page("Doctor", *parts)


def _problems_of(tree: ast.Module) -> Iterator[Problem]:
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        if call.func.id in _SEVERITIES and len(call.args) == 3:
            message, remedy = _text(call.args[1]), _text(call.args[2])
            if message.strip("{}") != message and not message.strip("{}").count(" "):
                continue  # the sentence of an error, which says the rest itself
            yield Problem(call.func.id, message, remedy)


def _text(node: ast.expr) -> str:
    """Return a text as it is printed, with what is only known at run time in braces."""
    match node:
        case ast.Constant(value=str(text)):
            pass
        case ast.JoinedStr(values=values):
            text = "".join(map(_text, values))
        case ast.FormattedValue(value=ast.Call() as call):
            text = _text(call)
        case ast.FormattedValue(value=ast.Name(id=name)) | ast.Name(id=name) if name in _UNITS:
            text = _UNITS[name]
        case ast.FormattedValue(value=value):
            text = f"{{{_name(value)}}}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            text = _text(left) + _text(right)
        case ast.Call(func=ast.Name(id="edit"), args=[unit, line]):
            text = edit(_text(unit), _text(line))
        case _:
            text = f"{{{_name(node)}}}"
    return text


def _name(node: ast.expr) -> str:
    """Return a word for an expression: its last name."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute | ast.Name):
            name = part.attr if isinstance(part, ast.Attribute) else part.id
            return name.strip("_").lower().replace("_", " ")
    return "…"
