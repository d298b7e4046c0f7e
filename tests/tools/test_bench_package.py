"""bench package: the package beside the same by hand, in data of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from scripts.database import connect
from scripts.server import LocalServer
from scripts.workload import package
from tests.support.commands import run_here

WAYS = {"package", "sqlmodel", "raw"}


def databases(server: LocalServer) -> set[str]:
    with connect(server.superuser, purpose="test") as connection:
        return {name for (name,) in connection.execute("select datname from pg_database")}


@pytest.fixture(autouse=True)
def nothing_is_left(server: LocalServer) -> Iterator[None]:
    before = databases(server)
    yield
    assert databases(server) == before


def measured(*options: str) -> tuple[int, dict[str, Any]]:
    """Return the exit status and the document."""
    done = run_here("bench", "package", *options, "--json")
    return done.returncode, json.loads(done.stdout)


@pytest.mark.row("R16")
def test_a_read_is_three_round_trips_and_costs_less_than_by_hand() -> None:
    """The goals with a margin: the fastest of so few rounds may be a tenth off."""
    _, document = measured("--rounds", "150")
    assert document["rounds"] == 150
    assert [figure["read"] for figure in document["results"]] == ["get", "list"]
    for figure in document["results"]:
        assert figure["us"].keys() == WAYS
        assert figure["goals"].keys() == figure["ratios"].keys() == WAYS - {"package"}
        # Where libpq cannot trace, there is nothing to count.
        trips = figure["round_trips"] or {"package": 3, "sqlmodel": 5, "raw": 4}
        assert trips == {"package": 3, "sqlmodel": 5, "raw": 4}
        for way, goal in figure["goals"].items():
            ratio = figure["us"][way] / figure["us"]["package"]
            assert figure["ratios"][way] == pytest.approx(ratio, abs=0.02)
            assert ratio > 0.85 * goal, figure


@pytest.mark.parametrize(
    ("goals", "told"),
    [
        ({"sqlmodel": 0.0, "raw": 0.0}, []),
        ({"sqlmodel": 0.0, "raw": 99.0}, ["raw's speed, below 99.0"]),
        ({"sqlmodel": 99.0, "raw": 99.0}, ["sqlmodel's speed", "raw's speed"]),
    ],
)
def test_the_exit_status_follows_the_goals(
    monkeypatch: pytest.MonkeyPatch, goals: dict[str, float], told: list[str]
) -> None:
    monkeypatch.setattr(package, "GOALS", {"list": goals})
    status, document = measured("--rounds", "1")
    assert status == (1 if told else 0)
    assert document["ok"] is not bool(told)
    assert {finding["code"] for finding in document["findings"]} <= {"below-goal"}
    for words, finding in zip(told, document["findings"], strict=True):
        assert finding["message"].startswith("list: ")
        assert words in finding["message"]


def test_an_interrupted_run_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_read: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(package, "_time", interrupt)
    assert measured()[0] == 130


def test_seconds_and_rounds_exclude_each_other() -> None:
    status, document = measured("--seconds", "1", "--rounds", "1")
    assert (status, document["findings"][0]["code"]) == (2, "usage")
