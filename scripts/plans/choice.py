"""Few statements that stand for all of a corpus: for people to read."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import combinations

from scripts.plans.corpus import Statement

Pairs = set[tuple[str, str]]


def chosen(corpus: Sequence[Statement]) -> list[Statement]:
    """Return every statement of one kind, every plain one, and enough for each pair of features.

    Plain is what combines least: no other statement has only a part of its features. The others are
    taken greedily, each the first that shows most pairs which are not shown yet.
    """
    combined = [statement for statement in corpus if statement.features]
    known = {statement.features for statement in corpus}
    names = {each.name for each in corpus if not _less(each) & known}
    pairs = {statement.name: _pairs(statement) for statement in combined}
    missing: Pairs = set().union(*pairs.values())
    for name in names & set(pairs):
        missing -= pairs[name]
    heap = [(-len(pairs[each.name]), number, each.name) for number, each in enumerate(combined)]
    heapq.heapify(heap)
    while missing:
        _, number, name = heapq.heappop(heap)
        gain = len(pairs[name] & missing)
        if heap and -gain > heap[0][0]:  # what it shows has been shown meanwhile
            heapq.heappush(heap, (-gain, number, name))
        else:
            names.add(name)
            missing -= pairs[name]
    return [statement for statement in corpus if statement.name in names]


def _pairs(statement: Statement) -> Pairs:
    return set(combinations(sorted(statement.features), 2))


def _less(statement: Statement) -> set[frozenset[str]]:
    """Return the features, without each of them in turn."""
    return {statement.features - {each} for each in statement.features}
