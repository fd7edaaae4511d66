"""Every command in the documentation exists, and takes its options. None is run."""

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from documentation import PAGES, ROOT, Example, examples_in, prose_of
from typer.exceptions import TyperException
from typer.main import get_command

from her2d.cli import app
from tools.docs.commands import commands, examples

_HEREDOC = re.compile(r"<<'?(\w+)'?\n.*?^\1$", re.MULTILINE | re.DOTALL)
_OPERATORS = re.compile(r"[;|&<>()]+")
_ASSIGNMENT = re.compile(r"\w+=")
# Programs whose options are their own matter; a misspelt one is not among them.
_OTHERS = frozenset(
    {"apt", "cat", "cd", "chmod", "cp", "curl", "docker", "export", "git", "grep", "install"}
    | {"journalctl", "mkdir", "mypy", "pip", "pytest", "sed", "sqlite3", "sudoedit", "systemctl"}
    | {"helm", "kubectl", "openssl", "ray", "usermod", ".ci/run"}
)
_ITS_COMMANDS = {command.words for command in commands()}
_RULES = [
    rule
    for path in (ROOT / "Makefile", *(ROOT / "packaging").glob("*.mk"))
    for rule in re.findall(r"^([a-z][a-z -]*):", path.read_text(), re.MULTILINE)
]
_TARGETS = {target for rule in _RULES for target in rule.split()}


def parse(arguments: list[str]) -> None:
    """Parse a command line of her2d's as Typer would. Raises typer's UsageError."""
    command, context, rest = get_command(app), None, arguments
    name: str | None = "her2d"
    while True:
        context = command.make_context(name, list(rest), parent=context)
        if not getattr(command, "commands", None):
            return
        rest = [*getattr(context, "_protected_args", []), *context.args]
        if not rest:
            return
        name, command, rest = command.resolve_command(context, rest)


def lines_of(example: Example) -> Iterator[list[str]]:
    """The simple commands of a block, each as its words."""
    text = _HEREDOC.sub("heredoc", example.text).replace("\\\n", " ")
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>()")
        lexer.whitespace_split = True
        words: list[str] = []
        skip = False
        for word in lexer:
            if _OPERATORS.fullmatch(word):
                if ">" in word or "<" in word:
                    skip = True
                else:
                    yield words
                    words = []
            elif skip:
                skip = False
            else:
                words.append(word)
        yield words


def check(words: list[str]) -> None:
    """Raise AssertionError or typer's UsageError where a command is not as the code has it."""
    while words and (_ASSIGNMENT.match(words[0]) or words[0] == "sudo"):
        words = words[3:] if words[:2] == ["sudo", "-u"] else words[1:]
    if not words:
        return
    program, arguments = words[0].rpartition("/")[2], words[1:]
    if program == "her2d":
        parse(arguments)
    elif program == "make":
        wanted = [word for word in arguments if "=" not in word and not word.startswith("-")]
        assert set(wanted) <= _TARGETS, f"no such target: {wanted}"
    elif program.startswith("python"):
        module = arguments[arguments.index("-m") + 1]
        assert module in ("pip", "venv", "build") or find_spec(module) is not None, module
    else:
        assert program in _OTHERS or words[0] in _OTHERS, f"unknown program: {words}"


@pytest.mark.parametrize("example", examples_in("sh"), ids=str)
def test_each_line_of_shell_is_a_command_that_exists(example: Example):
    for words in lines_of(example):
        check(words)


@pytest.mark.parametrize(
    "line",
    [
        "her2d resluts",
        "her2d results --stauts positive",
        "her2d results --status postive",
        "her2d queue retry twelve",
        "sudo -u her2d her2d db bakcup",
        "make dmeo",
        "python -m tools.nothing",
        "systemclt start her2d",
        "cd /; her2d runn",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str):
    found = list(lines_of(Example("page", 1, "sh", line)))[-1]
    with pytest.raises((AssertionError, TyperException)):
        check(found)


def test_there_are_examples_to_check():
    words = [words for example in examples_in("sh") for words in lines_of(example)]
    assert sum("her2d" in " ".join(line) for line in words) > 100


def spoken_of() -> Iterator[tuple[str, str]]:
    """Page and text of each command that is named in a sentence."""
    for page in PAGES:
        for text in re.findall(r"`(her2d [a-z][^`]*)`", prose_of(page)):
            yield str(page.relative_to(ROOT)), text


@pytest.mark.parametrize(("page", "text"), sorted(set(spoken_of())))
def test_each_command_that_a_sentence_names_exists(page: str, text: str):
    words = text.split()
    # `her2d queue ls|retry` names several.
    several = next((n for n, word in enumerate(words) if "|" in word), None)
    variants = [words]
    if several is not None:
        variants = [[*words[:several], one] for one in words[several].split("|")]
    for variant in variants:
        path = tuple(word for word in _before_the_arguments(variant))
        known = max(
            (found for found in _ITS_COMMANDS if path[: len(found)] == found), key=len, default=()
        )
        assert known, f"{page}: {text}"
        (command,) = (c for c in commands() if c.words == known)
        if command.is_group and not command.click.invoke_without_command:
            assert path == known, f"{page}: {text}: no such command of {command.name}"
        taken = {name for p in command.click.params for name in (*p.opts, *p.secondary_opts)}
        options = {word for word in variant if word.startswith("--")} - {"--help"}
        assert options <= taken, f"{page}: {text}"


def _before_the_arguments(words: list[str]) -> Iterator[str]:
    for word in words:
        if word.startswith("-") or word != word.lower():
            return
        yield word


def test_each_command_has_an_example():
    leaves = {c.name for c in commands() if not c.is_group or c.click.invoke_without_command}
    assert set(examples()) == leaves
