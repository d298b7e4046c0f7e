"""What a statement of a dump makes or changes, and what it needs."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

from pglast import ast
from pglast.enums import AlterTableType, ConstrType, ObjectType
from pglast.visitors import Visitor

Name = tuple[str, ...]
"""A qualified name; functions, indexes and extensions, which may share it, have a first part more.
"""


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
    TRIGGER = 9
    SETTING = 10
    ROW_SECURITY = 11
    POLICY = 12
    GRANT = 13


COLUMN_CHANGES = {
    AlterTableType.AT_ColumnDefault,
    AlterTableType.AT_SetStatistics,
    AlterTableType.AT_SetOptions,
    AlterTableType.AT_SetStorage,
    AlterTableType.AT_SetCompression,
    AlterTableType.AT_AttachPartition,
}
CONSTRAINT_STEPS = {
    ConstrType.CONSTR_PRIMARY: Step.PRIMARY_KEY,
    ConstrType.CONSTR_UNIQUE: Step.UNIQUE,
    ConstrType.CONSTR_FOREIGN: Step.FOREIGN_KEY,
}


def subject(tree: Any) -> tuple[Name, Step] | None:
    """Return the object that a statement is about, and its place there.

    None is a comment on what the statement before made, or a statement that stands for itself.
    """
    match tree:
        case ast.AlterTableStmt(objtype=ObjectType.OBJECT_INDEX):
            return ("index", *_relation(tree.relation)), Step.INDEX
        case ast.AlterTableStmt():
            return _relation(tree.relation), _table_step(tree)
        case ast.CommentStmt(objtype=ObjectType.OBJECT_TABLE):
            return _strings(tree.object), Step.COMMENT
        case ast.CommentStmt(objtype=ObjectType.OBJECT_COLUMN):
            return _strings(tree.object)[:-1], Step.COMMENT
    if type(tree) not in SUBJECTS:
        return None
    name, step = SUBJECTS[type(tree)]
    return name(tree), step


def alias(tree: Any) -> Name | None:
    """Return the name by which later statements mean the object that this one is about.

    It is that of an index, or of the sequence of an identity column.
    """
    if isinstance(tree, ast.IndexStmt):
        return _index(tree.relation, tree.idxname)
    if isinstance(tree, ast.AlterTableStmt) and isinstance(_change(tree).def_, ast.Constraint):
        constraint: Any = _change(tree).def_
        if constraint.contype == ConstrType.CONSTR_IDENTITY:
            options = {option.defname: option.arg for option in constraint.options}
            return _strings(options["sequence_name"])
        return _index(tree.relation, constraint.conname)
    return None


def partition(tree: Any) -> tuple[Name, Name] | None:
    """Return partition and partitioned table where a statement attaches the one to the other."""
    if (
        isinstance(tree, ast.AlterTableStmt)
        and tree.objtype == ObjectType.OBJECT_TABLE
        and _change(tree).subtype == AlterTableType.AT_AttachPartition
    ):
        return _relation(_change(tree).def_.name), _relation(tree.relation)
    return None


def foreign_key(tree: Any) -> Name | None:
    """Return the table that a statement makes a foreign key to."""
    if isinstance(tree, ast.AlterTableStmt) and _table_step(tree) == Step.FOREIGN_KEY:
        return _relation(_change(tree).def_.pktable)
    return None


class _Needs(Visitor):
    def __init__(self) -> None:
        self.names: set[Name] = set()

    def visit_RangeVar(self, ancestors: Any, node: Any) -> None:  # noqa: N802
        self.names.add(_relation(node))

    def visit_TypeName(self, ancestors: Any, node: Any) -> None:  # noqa: N802
        # The functions of an aggregate are parsed as types.
        self.names |= {_strings(node.names), ("function", *_strings(node.names))}

    def visit_FuncCall(self, ancestors: Any, node: Any) -> None:  # noqa: N802
        self.names.add(("function", *_strings(node.funcname)))

    def visit_CreateTrigStmt(self, ancestors: Any, node: Any) -> None:  # noqa: N802
        self.names.add(("function", *_strings(node.funcname)))


def needs(tree: Any) -> set[Name]:
    """Return the names that a statement mentions outside of functions' bodies that are strings."""
    visitor = _Needs()
    visitor(tree)
    return visitor.names


def _table_step(tree: Any) -> Step:
    change = _change(tree)
    match change.subtype:
        case AlterTableType.AT_AddIdentity:
            return Step.IDENTITY
        case AlterTableType.AT_AddConstraint:
            return CONSTRAINT_STEPS.get(change.def_.contype, Step.CONSTRAINT)
        case AlterTableType.AT_EnableRowSecurity | AlterTableType.AT_ForceRowSecurity:
            return Step.ROW_SECURITY
    return Step.COLUMN if change.subtype in COLUMN_CHANGES else Step.SETTING


def _change(tree: Any) -> Any:
    """The one change of an ALTER TABLE: pg_dump never writes more."""
    (change,) = tree.cmds
    return change


def _granted(target: Any) -> Name:
    """The object of a GRANT: a relation, a function, a type or a schema."""
    match target:
        case ast.RangeVar():
            return _relation(target)
        case ast.ObjectWithArgs():
            return "function", *_strings(target.objname)
        case tuple():
            return _strings(target)
    return (target.sval,)


def _relation(target: Any) -> Name:
    return target.schemaname, target.relname


def _index(table: Any, name: Any) -> Name:
    return "index", table.schemaname, name


def _strings(parts: Any) -> Name:
    return tuple(part.sval for part in parts)


SUBJECTS: dict[type, tuple[Callable[[Any], Name], Step]] = {
    ast.CreateSchemaStmt: (lambda tree: (tree.schemaname,), Step.CREATE),
    ast.CompositeTypeStmt: (lambda tree: _relation(tree.typevar), Step.CREATE),
    ast.CreateEnumStmt: (lambda tree: _strings(tree.typeName), Step.CREATE),
    ast.CreateRangeStmt: (lambda tree: _strings(tree.typeName), Step.CREATE),
    ast.CreateDomainStmt: (lambda tree: _strings(tree.domainname), Step.CREATE),
    ast.CreateFunctionStmt: (lambda tree: ("function", *_strings(tree.funcname)), Step.CREATE),
    # Aggregates, and rarer things that nobody grants anything on.
    ast.DefineStmt: (lambda tree: ("function", *_strings(tree.defnames)), Step.CREATE),
    ast.CreateSeqStmt: (lambda tree: _relation(tree.sequence), Step.CREATE),
    ast.CreateStmt: (lambda tree: _relation(tree.relation), Step.CREATE),
    ast.ViewStmt: (lambda tree: _relation(tree.view), Step.CREATE),
    ast.CreateTableAsStmt: (lambda tree: _relation(tree.into.rel), Step.CREATE),
    ast.AlterSeqStmt: (lambda tree: _strings(tree.options[0].arg)[:-1], Step.COLUMN),
    ast.IndexStmt: (lambda tree: _relation(tree.relation), Step.INDEX),
    ast.CreateStatsStmt: (lambda tree: _relation(tree.relations[0]), Step.INDEX),
    ast.CreateTrigStmt: (lambda tree: _relation(tree.relation), Step.TRIGGER),
    ast.RuleStmt: (lambda tree: _relation(tree.relation), Step.TRIGGER),
    ast.CreatePolicyStmt: (lambda tree: _relation(tree.table), Step.POLICY),
    ast.GrantStmt: (lambda tree: _granted(tree.objects[0]), Step.GRANT),
}
"""Whose name a statement of each kind bears, and its place there; pg_dump writes no OWNED BY NONE.
"""
