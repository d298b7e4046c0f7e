"""The order in which a reviewer reads a schema: what tables need, each table whole, the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pglast import ast
from pglast.enums import AlterTableType, ConstrType, ObjectType

from scripts.render.dump import Statement

REST = "views, foreign keys that close a circle, and what needs such things"

Name = tuple[str, ...]
"""The name of a relation, index, type, schema or function, qualified."""


class Step(IntEnum):
    """The place of a statement among those about the same object."""

    CREATE = 0
    IDENTITY = 1
    COLUMN = 2
    COMMENT = 3
    PRIMARY_KEY = 4
    UNIQUE = 5
    CONSTRAINT = 6
    FOREIGN_KEY = 7
    INDEX = 8
    OWN_FOREIGN_KEY = 9  # of a table to itself, perhaps to an index that is no constraint
    TRIGGER = 10
    SETTING = 11
    ROW_SECURITY = 12
    POLICY = 13
    GRANT = 14
    REST = 15


SUBJECTS: dict[type, tuple[str, Step]] = {
    ast.CreateSchemaStmt: ("schemaname", Step.CREATE),
    ast.CreateFdwStmt: ("fdwname", Step.CREATE),
    ast.CreateForeignServerStmt: ("servername", Step.CREATE),
    ast.CompositeTypeStmt: ("typevar", Step.CREATE),
    ast.CreateEnumStmt: ("typeName", Step.CREATE),
    ast.CreateRangeStmt: ("typeName", Step.CREATE),
    ast.CreateDomainStmt: ("domainname", Step.CREATE),
    ast.CreateFunctionStmt: ("funcname", Step.CREATE),
    ast.DefineStmt: ("defnames", Step.CREATE),  # aggregates, and rarer things
    ast.CreateSeqStmt: ("sequence", Step.CREATE),
    ast.CreateStmt: ("relation", Step.CREATE),
    ast.CreateForeignTableStmt: ("base", Step.CREATE),
    ast.ViewStmt: ("view", Step.CREATE),
    ast.CreateTableAsStmt: ("into", Step.CREATE),
    ast.IndexStmt: ("relation", Step.INDEX),
    ast.CreateStatsStmt: ("relations", Step.INDEX),
    ast.CreateTrigStmt: ("relation", Step.TRIGGER),
    ast.RuleStmt: ("relation", Step.TRIGGER),
    ast.CreatePolicyStmt: ("table", Step.POLICY),
    ast.GrantStmt: ("objects", Step.GRANT),
}
"""Where a statement of each kind has the name of what it is about, and its place there."""

CHANGES = {
    AlterTableType.AT_AddIdentity: Step.IDENTITY,
    AlterTableType.AT_AttachPartition: Step.COLUMN,
    AlterTableType.AT_ColumnDefault: Step.COLUMN,
    AlterTableType.AT_SetCompression: Step.COLUMN,
    AlterTableType.AT_SetOptions: Step.COLUMN,
    AlterTableType.AT_SetStatistics: Step.COLUMN,
    AlterTableType.AT_SetStorage: Step.COLUMN,
    AlterTableType.AT_EnableRowSecurity: Step.ROW_SECURITY,
    AlterTableType.AT_ForceRowSecurity: Step.ROW_SECURITY,
}
CONSTRAINTS = {
    ConstrType.CONSTR_PRIMARY: Step.PRIMARY_KEY,
    ConstrType.CONSTR_UNIQUE: Step.UNIQUE,
    ConstrType.CONSTR_EXCLUSION: Step.CONSTRAINT,
}
"""The constraints that have an index of their own name."""


COMMENTED = {ObjectType.OBJECT_TABLE, ObjectType.OBJECT_COLUMN, ObjectType.OBJECT_FOREIGN_TABLE}
"""What has comments at a place of their own; others stay with the statement before them."""


@dataclass
class Part:
    """A statement with the comments on what it makes.

    Parameters
    ----------
    name : of what it is about: a table's for a partition, an index or an identity's sequence
    makes : the name that later statements mean it by; None where there is none
    needs : the other names that it mentions, but for functions' bodies that are strings
    """

    name: Name
    step: Step
    makes: Name | None
    needs: set[Name]
    statements: list[Statement]


def arrange(statements: Sequence[Statement]) -> list[tuple[str, list[Statement]]]:
    """Group the statements of a dump, each exactly once, under titles, in an order that loads.

    First stands what tables need, as in the dump; then each table with all that belongs to it, in
    the order of foreign keys. What needs something that would stand later, or needs that in turn,
    is kept for the end, as in the dump, whose order is one that loads.
    """
    parts, tables = _parts(statements)
    order = {name: number for number, name in enumerate(_table_order(tables), 1)}
    first = {part.name: number for number, part in reversed([*enumerate(parts)])}
    made = {part.makes for part in parts}
    there: set[Name | None] = set()
    groups: dict[Name, list[Statement]] = {(): [], **{name: [] for name in order}}
    late = set()
    for part in sorted(parts, key=lambda p: (order.get(p.name, 0), first[p.name], p.step)):
        if part.step is not Step.REST and part.needs & made <= there:
            there.add(part.makes)
            groups[part.name if part.name in order else ()] += part.statements
        else:
            there.discard(part.makes)
            late.add(id(part))
    rest = [statement for part in parts if id(part) in late for statement in part.statements]
    titled = [*((".".join(name), group) for name, group in groups.items()), (REST, rest)]
    return [(title, group) for title, group in titled if group]


def _parts(statements: Sequence[Statement]) -> tuple[list[Part], dict[Name, set[Name]]]:
    """The parts, in the dump's order, and the names that each table needs."""
    parts: list[Part] = []
    homes: dict[Name | None, Name] = {}
    tables: dict[Name, set[Name]] = {}
    for number, statement in enumerate(statements):
        tree = statement.tree
        if isinstance(tree, ast.CommentStmt) and tree.objtype not in COMMENTED and parts:
            parts[-1].statements.append(statement)
            continue
        name, step = _subject(tree) or (("", str(number)), Step.REST if tables else Step.CREATE)
        makes = name if step is Step.CREATE else _by_the_way(tree)
        if isinstance(tree, ast.CreateStmt | ast.CreateForeignTableStmt):
            tables[name] = set()
        elif makes and makes != name:
            homes[makes] = name
        elif attached := _attached(tree):
            homes[attached] = name
        parts.append(Part(name, step, makes, {*_mentioned(tree)} - {makes}, [statement]))
    for part in parts:
        while part.name in homes:
            part.name = homes[part.name]
        if part.name in tables and part.step in (Step.CREATE, Step.FOREIGN_KEY):
            tables[part.name] |= {homes.get(need, need) for need in part.needs}
    return parts, {name: needs for name, needs in tables.items() if name not in homes}


def _table_order(tables: dict[Name, set[Name]]) -> list[Name]:
    """The tables by name, each after those that it needs; of a circle one goes first."""
    pending = {name: tables[name] & tables.keys() - {name} for name in sorted(tables)}
    order: list[Name] = []
    while pending:
        chosen = next((name for name, needs in pending.items() if not needs & pending.keys()), None)
        if chosen is None:
            circle = [min(pending)]
            while circle[-1] not in circle[:-1]:
                circle.append(min(pending[circle[-1]] & pending.keys()))
            chosen = min(circle[circle.index(circle[-1]) :])
        order.append(chosen)
        del pending[chosen]
    return order


def _subject(tree: Any) -> tuple[Name, Step] | None:
    """What a statement is about, and its place there; None where it stands for itself."""
    match tree:
        case ast.CommentStmt(objtype=ObjectType.OBJECT_COLUMN, object=column):
            return _name(column)[:-1], Step.COMMENT
        case ast.CommentStmt(object=name):
            return _name(name), Step.COMMENT
        case ast.AlterSeqStmt(options=(ast.DefElem(arg=column),)):  # OWNED BY, never another
            return _name(column)[:-1], Step.COLUMN
        case ast.AlterTableStmt(relation=table):
            return _name(table), _table_step(tree)
    if type(tree) not in SUBJECTS:
        return None
    attribute, step = SUBJECTS[type(tree)]
    return _name(getattr(tree, attribute)), step


def _table_step(tree: Any) -> Step:
    (change,) = tree.cmds  # pg_dump never writes more
    if tree.objtype == ObjectType.OBJECT_INDEX:
        return Step.INDEX
    if change.subtype != AlterTableType.AT_AddConstraint:
        return CHANGES.get(change.subtype, Step.SETTING)
    if change.def_.contype == ConstrType.CONSTR_FOREIGN:
        own = _name(change.def_.pktable) == _name(tree.relation)
        return Step.OWN_FOREIGN_KEY if own else Step.FOREIGN_KEY
    return CONSTRAINTS.get(change.def_.contype, Step.CONSTRAINT)


def _by_the_way(tree: Any) -> Name | None:
    """The index, or the sequence of an identity column, that a statement on a table makes."""
    match tree:
        case ast.IndexStmt(relation=table, idxname=index):
            return (*_name(table)[:-1], str(index))
        case ast.AlterTableStmt(
            relation=table, cmds=(ast.AlterTableCmd(def_=ast.Constraint() as constraint),)
        ):
            if constraint.contype == ConstrType.CONSTR_IDENTITY:
                options = {option.defname: option.arg for option in constraint.options or ()}
                return _name(options["sequence_name"])
            if constraint.contype in CONSTRAINTS:
                return (*_name(table)[:-1], str(constraint.conname))
    return None


def _attached(tree: Any) -> Name | None:
    """The partition that a statement attaches to its table or index."""
    match tree:
        case ast.AlterTableStmt(cmds=(ast.AlterTableCmd(def_=ast.PartitionCmd(name=partition)),)):
            return _name(partition)
    return None


def _name(value: Any) -> Name:
    """The name in any of the forms in which a parse tree has one; the first of several."""
    match value:
        case str():
            return (value,)
        case ast.RangeVar():
            return str(value.schemaname), str(value.relname)
        case ast.CreateStmt(relation=of) | ast.IntoClause(rel=of) | ast.ObjectWithArgs(objname=of):
            return _name(of)
    if isinstance(value[0], ast.String):
        return tuple(str(part.sval) for part in value if isinstance(part, ast.String))  # no star
    return _name(value[0])


def _mentioned(tree: Any) -> Iterator[Name]:
    """Yield all that may be a name: of relations, with dots, in strings such as nextval's."""
    match tree:
        case ast.RangeVar() | (ast.String(), *_):
            yield _name(tree)
        case ast.String():
            yield tuple(part.strip('"') for part in str(tree.sval).split("."))
    for child in tree if isinstance(tree, tuple) else [getattr(tree, name) for name in tree]:
        if isinstance(child, ast.Node | tuple):
            yield from _mentioned(child)
