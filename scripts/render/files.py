"""Generated files: written where they are not what they should be, or reported."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from scripts.errors import Finding
from scripts.settings import project


@dataclass(frozen=True)
class Rendered:
    """What rendering one file did.

    Parameters
    ----------
    file : relative to the root
    changed : whether it was written, or would have to be
    findings : under `check`, that it is stale
    """

    file: str
    changed: bool
    findings: list[Finding]


def write(path: Path, text: str, *, made_of: str, check: bool) -> Rendered:
    """Write a generated file, where it is not this text.

    Parameters
    ----------
    path, text : the file
    made_of : what it follows from, in words
    check : write nothing, report instead
    """
    file = project().relative(path)
    old = path.read_text("utf-8") if path.exists() else None
    if text == old:
        return Rendered(file, changed=False, findings=[])
    if not check:
        path.write_text(text, "utf-8")
        return Rendered(file, changed=True, findings=[])
    finding = Finding(
        "stale-snapshot",
        f"{file} is not what {made_of}",
        file=file,
        line=_first_difference(old or "", text),
        fix="python -m scripts render",
    )
    return Rendered(file, changed=True, findings=[finding])


def _first_difference(old: str, new: str) -> int:
    """The line, from 1, where two texts part."""
    lines = zip_longest(old.split("\n"), new.split("\n"))
    return next(number for number, (one, other) in enumerate(lines, 1) if one != other)
