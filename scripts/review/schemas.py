"""The schema before and with the pending migrations, each made in a scratch database."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from difflib import unified_diff
from itertools import islice
from pathlib import Path

from scripts.address import Address
from scripts.render.snapshot import snapshot_text
from scripts.runner.build import build
from scripts.scratch import scratch_database

HEADING = re.compile(r"-- |CREATE FUNCTION ")
"""How a line of the snapshot begins that tells what it and the next ones are about."""


class Schema:
    """What a folder's migrations make, up to one of them.

    Parameters
    ----------
    folder : of the migrations
    last : the id of the last one; empty for none
    """

    def __init__(self, folder: Path, last: str) -> None:
        self._folder = folder
        self._last = last
        self._text: str | None = None

    def build(self, address: Address) -> None:
        """Make it in an empty database.

        Raises
        ------
        ToolError : a migration fails
        """
        build(address, self._last or "0000", folder=self._folder)
        self._text = snapshot_text(address, "")

    @property
    def text(self) -> str:
        """Its snapshot, of a database that `build` has made or, where there was none, makes now."""
        if self._text is None:
            with scratch_database() as address:
                self.build(address)
        assert self._text is not None
        return self._text


def schema_diff(before: Schema, after: Schema) -> str:
    """Return the diff of two snapshots, whose hunks tell which table they are of; may be empty.

    Raises
    ------
    ToolError : a migration fails
    """
    hunks = list(_hunks(_sections(before.text), _sections(after.text)))
    return "\n".join(["--- applied", "+++ with the pending migrations", *hunks] if hunks else [])


Sections = dict[tuple[str, int], list[str]]


def _sections(text: str) -> Sections:
    """Return the lines below each heading, by it and how often it has been there."""
    found: Sections = {("", 0): []}
    headings: Counter[str] = Counter()
    for line in text.split("\n"):
        if HEADING.match(line):
            headings[line] += 1
            found[line, headings[line]] = []
        next(reversed(found.values())).append(line)
    return found


def _hunks(before: Sections, after: Sections) -> Iterator[str]:
    """Compare section by section: of a whole schema it might take minutes."""
    for section in dict.fromkeys([*after, *before]):
        lines = unified_diff(before.get(section, []), after.get(section, []), lineterm="")
        for line in islice(lines, 2, None):
            yield f"@@ {section[0]}".rstrip() if line.startswith("@@") else line
