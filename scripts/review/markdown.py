"""Markdown of bounded length, in which foreign text stays text: no markup, no HTML, no mention."""

from __future__ import annotations

import re
import string
import sys
from collections.abc import Callable, Sequence
from html import escape

Part = Callable[[int], str]
"""Renders itself, cut at its end where it has more than so many characters."""

LEAST = 1_000
"""Characters that a part gets at least; where there are too many parts, the last are left out."""

NAME = 400
"""Characters of a name or a message that are shown."""

FIRST = 8
"""Lines of a list or a table before the others are folded."""

LEFT_OUT = 90
"""Characters that the line about what is left out may take."""

FOLD = 3_000
"""Characters from which on a part is folded."""


def code(text: str) -> str:
    """Return text as inline code, on one line; it may stand in a table, too."""
    text = _visible(" ".join(text.split()))
    text = text if len(text) <= NAME else f"{text[:NAME]}…"
    if text and not {"`", "|"} & set(text):
        return f"`{text}`"
    marks = (f"&#{ord(each)};" if each in string.punctuation else each for each in text)
    return f"<code>{''.join(marks)}</code>"


def words(text: str) -> str:
    """Return text as it is where it is a few words and numbers alone, else as inline code."""
    harmless = re.fullmatch(r"([A-Za-z0-9 ,:;()'+-]|\.(?!\S))+", text)
    return text if harmless and len(text) <= NAME else code(text)


def plain(text: str) -> Part:
    """Return a part that is shown as a whole or not at all; `text` is Markdown."""
    return lambda _: text


def fenced(text: str, language: str) -> Part:
    """Return a block of code that no text can end."""
    text = _visible(text.replace("\r\n", "\n").strip("\n"))

    def render(limit: int) -> str:
        shown = text
        while True:
            mark = "`" * max(3, 1 + max(map(len, re.findall("`+", shown)), default=0))
            block = f"{mark}{language}\n{shown}\n{mark}\n\n"
            block += _left_out(len(shown), len(text), "characters")
            if len(block) <= limit or not shown:
                return block
            shown = shown[: min(len(shown) - 1, max(0, len(shown) + limit - len(block)))]
            if (end := shown.rfind("\n", -200)) > 0:
                shown = shown[:end]

    return render


def section(head: str, parts: Sequence[Part], *, of: str, tail: str = "") -> Part:
    """Return a part made of parts: the short ones whole, the long ones cut to equal length.

    Parameters
    ----------
    head, tail : Markdown around them
    parts : in order; those that find no room at the end are counted
    of : what they are, for that line
    """

    def render(limit: int) -> str:
        whole = [part(sys.maxsize) for part in parts]
        lengths = [len(text) for text in whole]
        room = limit - len(head) - len(tail)
        if sum(lengths) <= room:
            return f"{head}{''.join(whole)}{tail}"
        room -= LEFT_OUT
        most = min(room, max(LEAST, _level(lengths, room)))
        shown: list[str] = []
        for part in parts:
            text = part(most)
            if len(text) > room:
                break
            shown.append(text)
            room -= len(text)
        return f"{head}{''.join(shown)}{_left_out(len(shown), len(parts), of)}{tail}"

    return render


def shortened(head: str, parts: Sequence[Part], *, of: str) -> Part:
    """Return a list or a table of which the first lines are shown, and the others folded."""
    first = section(head, parts[:FIRST], of=of, tail="\n")
    rest = section(head, parts[FIRST:], of=of, tail="\n")
    more = folded(f"{len(parts) - FIRST:,} more {of}", rest)
    return section("", [first, more] if len(parts) > FIRST else [first], of="parts")


def folded(summary: str, part: Part) -> Part:
    """Return a part below a line of text that folds it; a short one is unfolded."""
    is_open = " open" if len(part(sys.maxsize)) < FOLD else ""
    head = f"<details{is_open}><summary><code>{escape(_visible(summary))}</code></summary>\n\n"
    tail = "</details>\n\n"
    return lambda limit: head + part(limit - len(head) - len(tail)) + tail


def _level(lengths: Sequence[int], room: int) -> int:
    """Return how long each may be so that all find room."""
    for number, length in enumerate(sorted(lengths)):
        share = room // (len(lengths) - number)
        if length > share:
            return share
        room -= length
    return max(lengths, default=0)


def _left_out(shown: int, count: int, of: str) -> str:
    if shown == count:
        return ""
    return f"\n*Left out here: {count - shown:,} of {count:,} {of}; the JSON has all.*\n\n"


def _visible(text: str) -> str:
    """Return text in which characters show that a page would hide, or that would reorder it."""

    def show(found: re.Match[str]) -> str:
        return found[0] if found[0].isprintable() else f"<U+{ord(found[0]):04X}>"

    return re.sub(r"[^\n\t -~]", show, text)
