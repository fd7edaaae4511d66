"""Every log event of the package, found in its source."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import her2d
from her2d.processing.retry_policy import RULES
from tools.docs.markdown import code, introduction, page, table

_PACKAGE = Path(her2d.__file__).parent
_LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One call that logs, by its event's name."""

    name: str
    level: str
    fields: tuple[str, ...]
    module: str


def events() -> list[Event]:
    """All events, by name; one that is logged in several places is listed for each."""
    found = [event for path in sorted(_PACKAGE.rglob("*.py")) for event in _events_of(path)]
    return sorted(set(found), key=lambda event: (event.name, event.module, event.level))


def log_events_page() -> str:
    """The page `reference/log-events.md`."""
    rows = [
        [code(e.name), e.level, " ".join(map(code, e.fields)), code(e.module)] for e in events()
    ]
    return page(
        "Log events", introduction("log-events"), table(["event", "level", "fields", "from"], rows)
    )


def _events_of(path: Path) -> Iterator[Event]:
    module = ".".join(path.relative_to(_PACKAGE.parent).with_suffix("").parts)
    tree = ast.parse(path.read_text())
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and (method := _method(call)) is not None:
                fields = tuple(k.arg for k in call.keywords if k.arg and k.arg != "exc_info")
                if method == "log":
                    found = [(rule.event, rule.level) for rule in RULES]
                else:
                    found = [(name, _LEVELS[method]) for name in _names(call.args[0], function)]
                if not found:
                    raise ValueError(f"{path}:{call.lineno}: which event is logged here?")
                for name, level in found:
                    yield Event(name, level, fields, module)


def _method(call: ast.Call) -> str | None:
    """The method where this is a call of the module's structlog logger. `log.log` is called in one
    place, for the events of the retry policy."""
    function = call.func
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
        return None
    is_log = function.value.id == "log" and function.attr in {*_LEVELS, "log"}
    return function.attr if is_log else None


def _names(argument: ast.expr, function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The event's name, or those that the variable may hold which is logged."""
    if isinstance(argument, ast.Name):
        values = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == argument.id for t in node.targets)
        ]
        return [name for value in values for name in _names(value, function)]
    if isinstance(argument, ast.IfExp):
        return _names(argument.body, function) + _names(argument.orelse, function)
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [argument.value]
    return []
