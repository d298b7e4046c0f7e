"""The statements that applications send, as `corpus` of `[tool.schema]` names them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from scripts.errors import ToolError, refuse
from scripts.plans.reading import Reach
from scripts.settings import project

FIELDS = ("role", "parameters", "reads", "indexes")
"""What an SQL file says of a statement, each in a comment `-- FIELD: VALUE` below its name."""


@dataclass(frozen=True)
class Statement:
    """One statement, and how it is meant to be executed.

    Parameters
    ----------
    name : unique
    sql : with `%(name)s` for each parameter
    parameters : a value for each, the tenant's aside
    role : who sends it
    indexes : by which every plan of it reads
    reads : how many rows at the most
    buffers : how many pages at the most, or None
    features : what it combines; the queries that are shown cover each pair
    """

    name: str
    sql: str
    parameters: Mapping[str, Any]
    role: str
    indexes: tuple[str, ...]
    reads: Reach
    buffers: int | None = None
    features: frozenset[str] = frozenset()

    @cached_property
    def numbered(self) -> tuple[str, list[str]]:
        """The SQL as the driver sends it, and the names of the parameters $1, $2, …."""
        names: list[str] = []

        def number(match: re.Match[str]) -> str:
            if match[0] == "%%":
                return "%"
            if match[1] not in names:
                names.append(match[1])
            return f"${names.index(match[1]) + 1}"

        return re.sub(r"%%|%\((\w+)\)s", number, self.sql), names


def read_corpus(*, everything: bool = False) -> list[Statement]:
    """Return the statements of every source.

    Parameters
    ----------
    everything : every combination, not each part of it by itself

    Raises
    ------
    ToolError : a source is missing or malformed, or two statements have one name (`bad-corpus`)
    """
    found: dict[str, Statement] = {}
    for source in project().corpus:
        is_file = source.endswith(".sql")
        read = _of_file(project().root / source) if is_file else _of_module(source, everything)
        try:
            for statement in read:
                if statement.name in found:
                    raise ValueError(f"{statement.name} is there twice")
                found[statement.name] = statement
        except ToolError:
            raise
        except (ImportError, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
            raise refuse(
                "bad-corpus",
                f"{source}: {error}",
                fix="mend it, or `corpus` of [tool.schema]; scripts/README.md has the form",
            ) from None
    return list(found.values())


def _of_module(source: str, everything: bool) -> Iterator[Statement]:
    module, _, attribute = source.partition(":")
    statements: Callable[..., Iterator[Any]] = getattr(import_module(module), attribute)
    for each in statements(everything=everything):
        yield Statement(
            each.name,
            each.sql,
            each.parameters,
            project().application_role,
            each.indexes,
            Reach[each.reads.upper()],
            each.buffers,
            each.features,
        )


def _of_file(path: Path) -> Iterator[Statement]:
    for part in re.split(r"^-- name: ", path.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        name, _, text = part.partition("\n")
        about = dict(re.findall(rf"^-- ({'|'.join(FIELDS)}): (.*)$", text, re.MULTILINE))
        yield Statement(
            name,
            re.sub(r"^--.*\n", "", text, flags=re.MULTILINE).strip().removesuffix(";"),
            json.loads(about.get("parameters", "{}")),
            about.get("role", project().application_role),
            tuple(about.get("indexes", "").split()),
            Reach[about["reads"].upper()],
        )
