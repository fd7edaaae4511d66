"""Every log event of the package, found in its source."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import her2d
from her2d.daemon.worker import Worker
from her2d.processing.retry_policy import FILE_FAILED, RULES, Action
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
    found += _events_of_failed_attempts()
    return sorted(set(found), key=lambda event: (event.name, event.module, event.level))


def log_events_page() -> str:
    """The page `reference/log-events.md`."""
    rows = [
        [code(e.name), e.level, " ".join(map(code, e.fields)), code(e.module)] for e in events()
    ]
    return page(
        "Log events", introduction("log-events"), table(["event", "level", "fields", "from"], rows)
    )


def _events_of_failed_attempts() -> Iterator[Event]:
    """The worker's events that the retry policy names, also that of the last failed attempt."""
    for rule in RULES:
        of_slide = ("slide_id",) if rule.action is Action.DUPLICATE else ()
        fields = ("reason", "action", "attempt", *of_slide)
        yield Event(rule.event, rule.level, fields, Worker.__module__)
        if Action.RETRY in (rule.action, rule.if_proven):
            yield Event("slide_quarantined", rule.level, fields, Worker.__module__)
        if rule.if_storage_proven is not None:
            yield Event(FILE_FAILED, "error", fields, Worker.__module__)


def _events_of(path: Path) -> Iterator[Event]:
    module = ".".join(path.relative_to(_PACKAGE.parent).with_suffix("").parts)
    tree = ast.parse(path.read_text())
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and (level := _level(call)) is not None:
                fields = tuple(k.arg for k in call.keywords if k.arg and k.arg != "exc_info")
                for name in _names(call.args[0], function):
                    yield Event(name, level, fields, module)


def _level(call: ast.Call) -> str | None:
    """The level where this is a call of the module's logger."""
    function = call.func
    is_log = isinstance(function, ast.Attribute) and (
        isinstance(function.value, ast.Name) and function.value.id == "log"
    )
    return _LEVELS.get(function.attr) if is_log and isinstance(function, ast.Attribute) else None


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
