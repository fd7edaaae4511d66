"""Read chosen elements of an XML text, in memory that does not depend on how it is written.

The XML of a scan comes from its file, so it may be anything. A tree of all its elements can take 60
times the memory of the text, and entities can expand to gigabytes.
"""

from collections.abc import Collection
from xml.etree import ElementTree

MOST_CHARACTERS = 8 * 2**20  # scanners' XML has under 3 million, most of it pictures in base64
_MOST_ELEMENTS = 100_000  # that are kept; a stack of 100 planes lists some hundred
_DEEPEST = 200  # of elements within elements; OME-XML with all its annotations has under 20
_AT_ONCE = 1 << 16  # characters
_MOST_TEXT = 4096  # characters of an element's text


def read_elements(text: str, names: Collection[str]) -> ElementTree.Element | None:
    """Return the tree of the elements with certain names; None where the text is not usable XML.

    Args:
        text: the document. Its root element is always kept.
        names: local names of the elements to keep. What lies below any other is left out.

    Returns:
        Elements under their local names, without namespaces.
    """
    # No scanner writes a DTD; entities that expand to gigabytes are a known attack.
    if len(text) > MOST_CHARACTERS or "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    target = _Chosen(frozenset(names))
    parser = ElementTree.XMLParser(target=target)
    text = text.rstrip("\0 \r\n")
    try:
        # Within one call, the parser goes on after an error and opens every element that follows.
        for start in range(0, len(text), _AT_ONCE):
            parser.feed(text[start : start + _AT_ONCE])
        parser.close()
    except (ElementTree.ParseError, ValueError):
        return None
    return target.root


class _Chosen:
    """What the parser calls; it keeps the elements with certain names."""

    def __init__(self, names: frozenset[str]) -> None:
        self.root: ElementTree.Element | None = None
        self._names = names
        self._above: list[ElementTree.Element] = []
        self._open: list[bool] = []  # for each open element whether it is kept
        self._kept = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition("}")[2]
        if len(self._open) >= _DEEPEST:
            raise ValueError(f"elements within elements, more than {_DEEPEST} deep")
        keep = self.root is None or (self._open[-1] and name in self._names)
        self._open.append(keep)
        if not keep:
            return
        self._kept += 1
        if self._kept > _MOST_ELEMENTS:
            raise ValueError(f"more than {_MOST_ELEMENTS} elements")
        element = ElementTree.Element(name, attributes)
        if self.root is None:
            self.root = element
        else:
            self._above[-1].append(element)
        self._above.append(element)

    def end(self, tag: str) -> None:
        if self._open.pop():
            self._above.pop()

    def data(self, text: str) -> None:
        # Only the text before the first child element belongs to an element here.
        if self._above and self._open[-1] and not len(self._above[-1]):
            element = self._above[-1]
            element.text = ((element.text or "") + text)[:_MOST_TEXT]

    def close(self) -> None:
        """End the document."""
