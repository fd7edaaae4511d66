"""What an error leads to, from the table that decides it."""

from her2d.processing.retry_policy import MOST_UNFORESEEN, RULES, SUSPECTED, Action, Rule
from tools.docs.markdown import code, introduction, page, table
from tools.docs.models import attribute_notes


def retries_page() -> str:
    """The page `reference/retries.md`."""
    notes = attribute_notes(Action)
    actions = [[code(action.value), notes[action.name]] for action in Action]
    return page(
        "Errors and retries",
        introduction("retries"),
        table(["what happened", "action", "log event"], map(_row, RULES)),
        "## Actions",
        table(["action", "what becomes of the job"], actions),
    )


def _row(rule: Rule) -> list[str]:
    wait = f", in {rule.wait_s:g} s" if rule.wait_s else ""
    if rule.is_suspected:
        wait = f", in {SUSPECTED.first_s:g} s, and in twice as long each time"
    proven = (
        f"; {code(rule.if_proven.value)} once another slide was scored since the last such failure"
        if rule.if_proven is not None
        else ""
    )
    if rule.if_storage_proven is not None:
        proven += (
            f"; {code(rule.if_storage_proven.value)} once another slide of the same file system was"
            " read since the last such failure"
        )
    if rule.if_proven is not None or rule.ends:
        proven += f"; {code(Action.QUARANTINE.value)} after {MOST_UNFORESEEN} such failures"
    return [rule.when, f"{code(rule.action.value)}{wait}{proven}", code(rule.event)]
