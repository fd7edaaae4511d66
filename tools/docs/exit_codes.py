"""How the commands end, from their source."""

import ast
from pathlib import Path

import her2d.cli
from her2d.cli.run import EXIT_DEVICE_LOST
from tools.docs.markdown import code, page, table

_CLI = Path(her2d.cli.__file__).parent


# Code -> meaning, in Markdown.
MEANINGS = {
    "0": "It did what was asked. For `her2d run`: it was asked to stop, and stopped cleanly.",
    "1": "It could not. One sentence on stderr says why, and where possible what to do, such as"
    " which package to install; a check (`scan`, `doctor`, `db check`, `demo`) found something"
    " wrong.",
    "2": "The command line is wrong: an unknown command or option, or a bad value.",
    str(EXIT_DEVICE_LOST): "`her2d run` only: the GPU is lost to this process. Every job is back in"
    " the queue, and a new process goes on with them; systemd starts one (`Restart=always`).",
}


def exit_codes_page() -> str:
    """The page `reference/exit-codes.md`."""
    return page(
        "Exit codes",
        table(["code", "meaning"], MEANINGS.items()),
        "A command that a signal ends has 128 and the signal's number, as the shell counts them. A"
        " traceback is a bug: please report it.",
        "Commands that choose an exit code themselves, beyond those that end in an error:",
        table(["module", "code"], ([code(name), found] for name, found in _own_codes())),
    )


def _own_codes() -> list[tuple[str, str]]:
    found = []
    for path in sorted(_CLI.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "typer.Exit",
                "sys.exit",
                "os._exit",
            ):
                given = ast.unparse(node.args[0]) if node.args else "0"
                found.append((f"her2d.cli.{path.stem}", f"{given}"))
    return sorted(set(found))
