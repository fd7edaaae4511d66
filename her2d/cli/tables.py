"""Listings that a person reads on a terminal, and that grep and awk read in a pipe.

On a terminal a listing is fitted to its width, and what it lists stays whole on one line:
sentences are wrapped or printed under their row, then columns are left out and named under the
listing. In a pipe every row is one line with all columns, at least two spaces between them, "-"
for an empty cell, and neither colours nor lines are drawn.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from her2d.system.text import printable

_GAP = "  "
_INDENT = "    "
_SENTENCE_WIDTH = 20


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a listing.

    Attributes:
        heading: all headings are on one line.
        is_name: the column is always there, and each of its cells is whole on one line.
        is_sentence: cells may be wrapped between words, or printed under their row.
        drop: columns with the lowest number are left out first where there is too little room;
            a column without a number is printed under its row instead, with its heading.
        right: align cells at the right.
    """

    heading: str
    is_name: bool = False
    is_sentence: bool = False
    drop: int | None = None
    right: bool = False


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where each column is printed, by index: beside the others, under its row, or nowhere."""

    widths: dict[int, int]
    beneath: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()


class Listing:
    """Rows of cells under headings."""

    def __init__(self, *columns: Column, title: str = "") -> None:
        self._columns = columns
        self._title = title
        self._rows: list[tuple[Text, ...]] = []

    def add(self, *cells: str | Text) -> None:
        """Add a row. Raises ValueError unless there is a cell for each column."""
        if len(cells) != len(self._columns):
            raise ValueError(f"{len(cells)} cells for {len(self._columns)} columns")
        self._rows.append(tuple(_printable(cell) for cell in cells))

    def print(self, console: Console, *, wider: str = "--json or a wider terminal") -> None:
        """Print all rows.

        Args:
            wider: what shows columns that are left out at this width.
        """
        for line in self._lines(console):
            console.print(line, soft_wrap=True)
        if dropped := self._layout(console).dropped:
            names = ", ".join(self._columns[n].heading for n in dropped)
            note = f"Not shown at this width: {names}; use {wider}."
            for words in _wrapped(note, console.width):
                console.print(Text(words), soft_wrap=True)

    def _lines(self, console: Console) -> Iterator[Text]:
        layout = self._layout(console)
        if self._title:
            title = _printable(self._title).plain
            room = console.width if console.is_terminal else cell_len(title)
            yield from (Text(line, "bold") for line in _wrapped(title, room))
        if any(column.heading for column in self._columns):
            yield from self._heading(console, layout)
        for row in self._rows:
            yield from self._row(console, layout, row)

    def _layout(self, console: Console) -> _Layout:
        widths = {
            n: max([cell_len(column.heading), *(row[n].cell_len for row in self._rows)])
            for n, column in enumerate(self._columns)
        }
        if not console.is_terminal:
            return _Layout(widths)
        narrowest = {
            n: max([cell_len(column.heading), *(_longest_word(row[n].plain) for row in self._rows)])
            for n, column in enumerate(self._columns)
            if column.is_sentence
        }
        return _fitted(self._columns, widths, narrowest, console.width)

    def _heading(self, console: Console, layout: _Layout) -> Iterator[Text]:
        headings = {n: Text(self._columns[n].heading, "bold") for n in layout.widths}
        yield self._joined(layout, headings)
        if console.is_terminal:
            total = sum(layout.widths.values()) + len(_GAP) * (len(layout.widths) - 1)
            yield Text(("-" if console.options.ascii_only else "─") * min(total, console.width))

    def _row(self, console: Console, layout: _Layout, row: Sequence[Text]) -> Iterator[Text]:
        stacks = {}
        for n, width in layout.widths.items():
            if not console.is_terminal:
                stacks[n] = [row[n] or Text("-")]
            elif self._columns[n].is_sentence:
                stacks[n] = [Text(line) for line in _wrapped(row[n].plain, width)]
            else:
                stacks[n] = [row[n]]
        yield from self._side_by_side(layout, stacks)
        for n in layout.beneath:
            if row[n]:
                cell = Text.assemble(f"{self._columns[n].heading}: ", row[n])
                yield from _indented(cell, console.width)

    def _side_by_side(self, layout: _Layout, stacks: dict[int, list[Text]]) -> Iterator[Text]:
        for cells in zip_longest(*stacks.values(), fillvalue=Text()):
            yield self._joined(layout, dict(zip(stacks, cells, strict=True)))

    def _joined(self, layout: _Layout, cells: dict[int, Text]) -> Text:
        padded = []
        for n, cell in cells.items():
            blank = " " * (layout.widths[n] - cell.cell_len)
            ordered = (blank, cell) if self._columns[n].right else (cell, blank)
            padded.append(Text.assemble(*ordered))
        line = Text(_GAP).join(padded)
        line.rstrip()
        return line


class _Fields(Listing):
    """Names and values. Each pair is whole on one line, but sentences are wrapped on a terminal."""

    def __init__(self, title: str, sentences: Container[str]) -> None:
        super().__init__(Column("", is_name=True), Column("", is_name=True), title=title)
        self._sentences = sentences

    def _row(self, console: Console, layout: _Layout, row: Sequence[Text]) -> Iterator[Text]:
        name, value = row
        if not console.is_terminal or name.plain not in self._sentences:
            yield from super()._row(console, layout, row)
            return
        room = console.width - layout.widths[0] - len(_GAP)
        lines = [Text(line) for line in _wrapped(value.plain, room)]
        yield from self._side_by_side(layout, {0: [name], 1: lines})


def fields(
    rows: Iterable[tuple[str, str]], *, title: str = "", sentences: Container[str] = ()
) -> Listing:
    """Return a listing of names and values.

    Args:
        sentences: names whose values are wrapped between words where a terminal is too narrow.
    """
    listing = _Fields(title, sentences)
    for name, value in rows:
        listing.add(name, value)
    return listing


def _fitted(
    columns: Sequence[Column], widths: dict[int, int], narrowest: dict[int, int], room: int
) -> _Layout:
    """Choose a layout in which rows fit into `room` cells.

    Sentences are wrapped, then printed under their rows, then columns are dropped.

    Args:
        widths: width of each column's widest cell.
        narrowest: width of the longest word in each sentence column.
    """
    beside = dict(widths)
    sentences = [n for n, column in enumerate(columns) if column.is_sentence]
    beneath: list[int] = []
    while sentences:
        left = room - _total({n: w for n, w in beside.items() if n not in sentences})
        shares = _shares({n: widths[n] for n in sentences}, left - len(_GAP) * len(sentences))
        if all(shares[n] >= _least(widths[n], narrowest[n]) for n in sentences):
            return _Layout({**beside, **shares}, tuple(beneath))
        beneath.insert(0, sentences.pop())
        del beside[beneath[0]]
    dropped: list[int] = []
    for n in _in_order_of_leaving(columns, beside):
        if _total(beside) <= room:
            break
        del beside[n]
        (beneath if columns[n].drop is None else dropped).append(n)
    return _Layout(beside, tuple(sorted(beneath)), tuple(sorted(dropped)))


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _shares(wanted: dict[int, int], left: int) -> dict[int, int]:
    """Divide `left` cells evenly; what a narrow column does not need goes to the wider ones."""
    shares = {}
    for number, n in enumerate(sorted(wanted, key=wanted.__getitem__)):
        shares[n] = min(wanted[n], left // (len(wanted) - number))
        left -= shares[n]
    return shares


def _least(wanted: int, longest_word: int) -> int:
    return max(min(wanted, _SENTENCE_WIDTH), longest_word)


def _in_order_of_leaving(columns: Sequence[Column], beside: Iterable[int]) -> list[int]:
    """Return all columns but names, first those with a `drop` number, then from the right."""
    leaving = [n for n in beside if not columns[n].is_name]
    numbered = [(drop, n) for n in leaving if (drop := columns[n].drop) is not None]
    others = [n for n in leaving if columns[n].drop is None]
    return [n for _, n in sorted(numbered)] + others[::-1]


def _indented(cell: Text, room: int) -> Iterator[Text]:
    if len(_INDENT) + cell.cell_len <= room:
        yield Text.assemble(_INDENT, cell)
        return
    for line in _wrapped(cell.plain, room - len(_INDENT)):
        yield Text(_INDENT + line)


def _wrapped(text: str, width: int) -> list[str]:
    """Break a text between words into lines of `width` cells; a longer word is a longer line."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and cell_len(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split(" ")), default=0)


def _printable(cell: str | Text) -> Text:
    """Return the cell with characters that could steer a terminal as escapes, such as \\n."""
    return cell if isinstance(cell, Text) else Text(printable(cell))
