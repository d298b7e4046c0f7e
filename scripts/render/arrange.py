"""The order in which a reviewer reads a schema: what tables need, each table whole, the rest."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from graphlib import CycleError, TopologicalSorter

from pglast import ast
from pglast.enums import ObjectType

from scripts.render.dump import Statement
from scripts.render.subject import Name, Step, alias, foreign_key, needs, partition, subject

POSTPONED = "what needs a table that stands later, or its own"


class Rank(IntEnum):
    """The part of the file that an object belongs to."""

    BEFORE_TABLES = 0
    TABLE = 1
    AFTER_TABLES = 2


@dataclass
class Part:
    """A statement, with the comments on what it makes."""

    statement: Statement
    step: Step
    number: int
    needs: frozenset[Name]
    foreign_key: Name | None
    comments: list[Statement] = field(default_factory=list)

    @property
    def statements(self) -> list[Statement]:
        """The statement and its comments, in order."""
        return [self.statement, *self.comments]


@dataclass
class Group:
    """What belongs to one object: a partitioned table with its partitions, all overloads of a name.

    Parameters
    ----------
    rank : where in the file it belongs
    number : the place of its first statement in the dump
    title : what a reader looks for; empty where there is nothing to look for
    """

    rank: Rank
    number: int
    title: str
    parts: list[Part] = field(default_factory=list)

    @property
    def statements(self) -> list[Statement]:
        """Every statement, in order."""
        return [statement for part in self.parts for statement in part.statements]


def arrange(statements: Sequence[Statement]) -> list[Group]:
    """Group the statements of a dump, each exactly once, in an order in which they load.

    Tables come in the order of their foreign keys. What needs something that stands later, and
    every foreign key that closes a circle, goes into a last group.
    """
    groups, homes = _group(statements)
    ordered = _order(groups, homes)
    place = {group.number: index for index, group in enumerate(ordered)}
    postponed = []
    for group in ordered:
        own = place[group.number]
        late = [
            part
            for part in group.parts[1:]
            if any(place[homes[name].number] > own for name in part.needs if name in homes)
            or (part.foreign_key and homes[part.foreign_key] is group)
        ]
        postponed += late
        group.parts = sorted(
            (part for part in group.parts if part not in late), key=lambda part: part.step
        )
    if postponed:
        postponed.sort(key=lambda part: part.number)
        ordered.append(Group(Rank.AFTER_TABLES, len(statements), POSTPONED, postponed))
    return ordered


def _group(statements: Sequence[Statement]) -> tuple[list[Group], dict[Name, Group]]:
    """The groups in the dump's order, and the group of every name."""
    whole = dict(filter(None, (partition(statement.tree) for statement in statements)))
    groups: list[Group] = []
    homes: dict[Name, Group] = {}
    part = None
    table_seen = False
    for number, statement in enumerate(statements):
        about = subject(statement.tree)
        if about is None and part and isinstance(statement.tree, ast.CommentStmt):
            part.comments.append(statement)
            continue
        name, step = about or ((), Step.CREATE)
        while name in whole:
            name = whole[name]
        table_seen = table_seen or isinstance(statement.tree, ast.CreateStmt)
        if name not in homes:
            rank = _rank(statement, step, table_seen)
            groups.append(Group(rank, number, ".".join(name) if rank is Rank.TABLE else ""))
            if name:
                homes[name] = groups[-1]
        group = homes[name] if name else groups[-1]
        tree = statement.tree
        part = Part(statement, step, number, frozenset(needs(tree)), foreign_key(tree))
        group.parts.append(part)
        if other := alias(statement.tree):
            homes[other] = group
    return groups, homes


def _rank(statement: Statement, step: Step, table_seen: bool) -> Rank:
    match statement.tree:
        case ast.CreateStmt():
            return Rank.TABLE
        case ast.ViewStmt() | ast.CreateTableAsStmt() | ast.AlterDefaultPrivilegesStmt():
            return Rank.AFTER_TABLES
        case ast.GrantStmt(objtype=ObjectType.OBJECT_SCHEMA):
            return Rank.BEFORE_TABLES
    known = subject(statement.tree) is not None and step is Step.CREATE
    return Rank.BEFORE_TABLES if known or not table_seen else Rank.AFTER_TABLES


def _order(groups: list[Group], homes: dict[Name, Group]) -> list[Group]:
    """The groups by rank, tables by name and others as in the dump, each after what it needs."""
    by_number = {group.number: group for group in groups}
    needed: dict[int, list[int]] = {}
    referenced: set[tuple[int, int]] = set()
    for group in groups:
        # pg_dump's order is one that loads: what comes later there cannot be needed.
        earlier = {
            homes[name].number
            for part in group.parts
            if part.step is Step.CREATE
            for name in part.needs
            if name in homes and homes[name].number < group.number
        }
        tables = {homes[part.foreign_key].number for part in group.parts if part.foreign_key}
        needed[group.number] = sorted(earlier | tables - {group.number})
        referenced |= {(group.number, table) for table in tables - earlier}
    while cycle := _cycle(needed):
        # Each stands before the one that needs it. The first by name goes first.
        pairs = [pair for pair in zip(cycle[1:], cycle, strict=False) if pair in referenced]
        group_number, table = min(pairs, key=lambda pair: by_number[pair[0]].title)
        needed[group_number].remove(table)
    return _merge(by_number, needed)


def _cycle(needed: dict[int, list[int]]) -> list[int] | None:
    try:
        TopologicalSorter(needed).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def _merge(groups: dict[int, Group], needed: dict[int, list[int]]) -> list[Group]:
    """Take the first of the groups whose needs are met, until all are taken."""
    sorter = TopologicalSorter(needed)
    sorter.prepare()
    ready: list[tuple[Rank, str, int]] = []
    ordered = []
    while sorter.is_active():
        for number in sorter.get_ready():
            heapq.heappush(ready, (groups[number].rank, groups[number].title, number))
        *_, number = heapq.heappop(ready)
        ordered.append(groups[number])
        sorter.done(number)
    return ordered
