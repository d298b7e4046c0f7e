"""The queries: what applications send, with how it is meant to be executed, for reviewers."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from scripts.plans.choice import chosen
from scripts.plans.corpus import Statement
from scripts.render.snapshot import GENERATED
from scripts.settings import project

ABOUT = """
-- {shown} of {all} statements that applications send, as the driver sends them: all of one kind,
-- every plain list, and of the combined ones enough to show each pair of what they combine.
-- `python -m scripts plans --all` plans all of them at production's size.
--
-- reads: how many rows at the most, triggers and foreign keys aside: nothing; key, those whose
-- whole key is given; limit, as many as the limit from each range of an index; filter, those and
-- the ones that a condition leaves out between them; range, all of one tenant that an index's
-- condition admits, in any order; table, all. by: the index that every plan reads by. buffers: the
-- pages of shared memory at the most, for a tenant of many rows.
"""


def queries_text(corpus: Sequence[Statement]) -> str:
    """Return the file: each statement below its name and its intent."""
    shown = chosen(corpus)
    about = ABOUT.format(shown=len(shown), all=f"{len(corpus):,}")
    return "\n".join([f"-- {len(shown)} queries{GENERATED}\n{about}", *map(_text, shown)])


def _text(statement: Statement) -> str:
    sql, names = statement.numbered
    parameters = ", ".join(f"${number} {name}" for number, name in enumerate(names, 1))
    told = {
        "name": statement.name,
        "role": "" if statement.role == project().application_role else statement.role,
        "parameters": parameters,
        "reads": str(statement.reads),
        "by": ", ".join(statement.indexes),
        "buffers": str(statement.buffers or ""),
    }
    lines = [
        line
        for key, value in told.items()
        if value
        for line in wrap(f"-- {key}: {value}", 100, subsequent_indent="--     ")
    ]
    return "\n".join([*lines, sql + ";\n"])
