"""The schema before and with the pending migrations, each made in a scratch database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import unified_diff

from scripts.address import Address
from scripts.render.snapshot import snapshot_text
from scripts.runner.build import build
from scripts.scratch import scratch_database

HEADING = re.compile(r"-- |CREATE FUNCTION ")
"""How a line of the snapshot begins that tells what the next ones are about."""


class Schema:
    """What the migrations make, up to one of them.

    Parameters
    ----------
    last : the id of the last one; empty for none
    """

    def __init__(self, last: str) -> None:
        self._last = last
        self._text: str | None = None

    def build(self, address: Address) -> None:
        """Make it in an empty database.

        Raises
        ------
        ToolError : a migration fails
        """
        build(address, self._last or "0000")
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
    """Return the unified diff of two snapshots, whose hunks name what they are in; may be empty.

    Raises
    ------
    ToolError : a migration fails
    """
    return "\n".join(_diff(before.text.split("\n"), after.text.split("\n")))


def _diff(before: list[str], after: list[str]) -> Iterator[str]:
    for line in unified_diff(before, after, "applied", "with the pending migrations", lineterm=""):
        if hunk := re.match(r"@@ -(\d+)", line):
            above = before[: int(hunk[1])]
            headings = (each for each in reversed(above) if HEADING.match(each))
            yield f"{line} {next(headings, '')}".rstrip()
        else:
            yield line
