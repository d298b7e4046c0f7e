"""Definitions that PostgreSQL prints in two ways, once as written and once as loaded from a dump.

A chain of OR or AND that was written nested is printed with its brackets, and read back without:
`IS DISTINCT FROM` between rows makes one. An array of `varchar` that is cast to `text[]` is printed
so, and read back as an array of casts: `IN` with constants on a `varchar` column makes one.
"""

from __future__ import annotations

from typing import Any

import pglast
from pglast import ast
from pglast.parser import ParseError
from pglast.visitors import Visitor

# What pg_get_constraintdef and pg_get_expr print is a part of a statement.
CONTEXTS = ("", "alter table t add ", "select ")


def same_definition(one: str, other: str) -> bool:
    """Tell whether two definitions differ at most in the way PostgreSQL prints them."""
    tree = _tree(one)
    return tree is not None and tree == _tree(other)


def _tree(definition: str) -> Any:
    """The parse tree, which has no brackets and no places; None where it is no SQL."""
    for context in CONTEXTS:
        try:
            tree = pglast.parse_sql(context + definition)
        except ParseError:
            continue
        return _Canonical()(tree)
    return None


class _Canonical(Visitor):
    """Turns the cast of an array into an array of casts, and clears the places in arrays."""

    def visit_TypeCast(self, ancestors: Any, node: Any) -> Any:  # noqa: N802 (pglast's name)
        if not isinstance(node.arg, ast.A_ArrayExpr) or not node.typeName.arrayBounds:
            return None
        node.typeName.arrayBounds = None
        node.arg.elements = tuple(
            ast.TypeCast(arg=element, typeName=node.typeName) for element in node.arg.elements or ()
        )
        node.arg.list_start = node.arg.list_end = 0
        return node.arg

    def visit_A_ArrayExpr(self, ancestors: Any, node: Any) -> None:  # noqa: N802 (pglast's name)
        node.list_start = node.list_end = 0
