"""Every combination planned at three sizes; a million real rows against their twin."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from scripts.cli.plans import SIZES
from scripts.database import connect
from scripts.plans.corpus import read_corpus
from scripts.plans.explain import GENERIC, HEAVY
from scripts.plans.statistics import Statistics, export, read_statistics
from scripts.plans.survey import faults, survey
from scripts.runner.build import build
from scripts.server import LocalServer
from scripts.settings import project
from tests.support.real import agree, exact_twin, loaded, shapes, users

pytestmark = [pytest.mark.soak, pytest.mark.row("R6", "R30"), pytest.mark.usefixtures("server")]

MILLION = 1_000_000


Record = Callable[[str, object], None]


def test_every_combination_is_planned_as_it_is_meant_to_be(record_property: Record) -> None:
    corpus = read_corpus(everything=True)
    began = time.monotonic()
    outcomes = survey(
        build, read_statistics(project().statistics), corpus, SIZES, tenants=(HEAVY, GENERIC)
    )
    seconds = time.monotonic() - began
    told = f"{len(outcomes):,} plans of {len(corpus):,} statements in {seconds:.0f} s"
    record_property("score", told)
    assert len(outcomes) == 2 * 3 * len(corpus) > 150_000
    assert list(faults(outcomes)) == []


def test_a_million_rows_are_planned_as_their_twin(
    server: LocalServer, record_property: Record
) -> None:
    with loaded(server, MILLION) as real:
        heavy, *_, typical = users(real)
        every = read_corpus(everything=True)
        expected = shapes(real, every, heavy, typical)
        with exact_twin(server, real) as address:
            found = shapes(address, every, heavy, typical)
        agree(expected, found, record_property)
        with connect(real, purpose="test") as connection:
            exported = export(connection, "tasks")
    statistics = Statistics("tasks", exported["tables"])
    outcomes = survey(build, statistics, read_corpus(), (MILLION, *SIZES))
    assert list(faults(outcomes)) == []
