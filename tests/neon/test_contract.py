"""The client against the published description of Neon's API, and the stand-in against it, too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import httpx
import psycopg
import pytest

from scripts.errors import ToolError
from scripts.neon.client import Branch, Client
from scripts.neon.settings import NeonSettings
from scripts.server import LocalServer
from tests.support.neon.api import ROUTES, neon_api
from tests.support.prism import prism

pytestmark = pytest.mark.row("R27")

KEY = "a-key-that-nobody-sees"
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
BRANCH = Branch("pr-1", "br-still-lake-1", None, False, False, NOW, None, "init")
OTHER = Branch("main", "br-still-lake-2", None, True, False, NOW, None, "ready")

# Every request that the client knows.
CALLS: dict[str, tuple[Callable[[Client], Any], type]] = {
    "list": (lambda neon: next(neon.branches()), Branch),
    "search": (lambda neon: neon.find("pr-1"), type(None)),
    "create": (
        lambda neon: neon.create("pr-1", parent=OTHER.id, expires_at=NOW + DAY),
        Branch,
    ),
    "look": (lambda neon: neon.ready(BRANCH), Branch),
    "expire": (lambda neon: neon.expire(BRANCH, NOW + DAY), Branch),
    "reset": (lambda neon: neon.restore(BRANCH, OTHER.id), Branch),
    "restore to an LSN": (
        lambda neon: neon.restore(BRANCH, BRANCH.id, lsn="0/1DE2850", keep_as="before"),
        Branch,
    ),
    "restore to a time": (
        lambda neon: neon.restore(BRANCH, BRANCH.id, at=NOW, keep_as="before"),
        Branch,
    ),
    "delete": (lambda neon: neon.delete(BRANCH), bool),
    "compare": (lambda neon: neon.compare(BRANCH, OTHER), str),
}


@pytest.fixture(scope="module")
def described() -> Iterator[str]:
    """The address of an API that answers by the description."""
    with prism() as url:
        yield url


def client(url: str, *, timeout: float = 60, prefer: str = "") -> Client:
    neon = Client(NeonSettings(KEY, "still-lake", "neondb", "owner", url), timeout=timeout)
    if prefer:
        neon._api._http.headers["Prefer"] = prefer
    return neon


@pytest.mark.parametrize("name", CALLS)
def test_every_request_is_as_described(described: str, name: str) -> None:
    call, kind = CALLS[name]
    with client(described) as neon:
        assert isinstance(call(neon), kind)


@pytest.mark.parametrize("pooled", [False, True])
def test_an_address_that_is_none_is_refused(described: str, pooled: bool) -> None:
    # The description has no example of one: Prism answers with a word.
    with client(described) as neon, pytest.raises(ToolError) as refusal:
        neon.address(BRANCH, pooled=pooled)
    assert refusal.value.findings[0].code == "malformed-url"


def test_a_branch_that_is_gone_is_no_error(described: str) -> None:
    with client(described, prefer="code=204") as neon:
        assert neon.delete(BRANCH) is False


def test_every_error_is_told_in_one_line(described: str) -> None:
    """The description has one form for all errors; these statuses it names, for some request."""
    statuses = (400, 401, 403, 404, 406, 409, 412, 422, 423, 429, 500, 503)

    def told(case: tuple[int, str]) -> str | None:
        """Return what is wrong with the error for a status and a call."""
        status, name = case
        busy = status in (423, 429, 503)
        timeout = 3 if busy or status == 500 else 60  # what is asked again until then
        with (
            client(described, timeout=timeout, prefer=f"code={status}") as neon,
            pytest.raises(ToolError) as refusal,
        ):
            CALLS[name][0](neon)
        (finding,) = refusal.value.findings
        known = busy or re.search(rf"\({status} .*, request \w+\)$", finding.message)
        is_right = finding.code == ("neon-timeout" if busy else "neon-api") and known
        is_clear = finding.fix and KEY not in str(finding) and "\n" not in finding.message
        return None if is_right and is_clear else f"{status}, {name}: {finding}"

    with ThreadPoolExecutor(20) as pool:
        assert [*filter(None, pool.map(told, product(statuses, CALLS)))] == []


def test_what_the_description_does_not_allow_is_noticed(described: str) -> None:
    with client(described) as neon, pytest.raises(ToolError, match="422"):
        neon.restore(BRANCH, "no branch's id")
    unauthorized = httpx.get(f"{described}/projects/still-lake/branches", trust_env=False)
    assert unauthorized.status_code == 401


def test_a_branch_lives_and_dies_as_described(server: LocalServer) -> None:
    with neon_api(server, seconds=0.01) as api, prism(api.url) as url:
        project = api.project
        settings = NeonSettings(api.key, project.id, project.database, project.role, url)
        with Client(settings) as neon:

            def execute(branch: Branch, sql: str) -> Any:
                with psycopg.connect(**neon.address(branch).parameters) as connection:
                    return connection.execute(sql)

            (main,) = neon.branches()
            made = neon.create("pr-1", parent=main.id, expires_at=datetime.now(UTC) + DAY)
            neon.ready(replace(made, state="init"))
            found = neon.find("pr-1")
            assert found
            assert (found.id, found.parent_id, found.state) == (made.id, main.id, "ready")
            execute(found, "create table made_here (id int)")
            assert "+CREATE TABLE public.made_here" in neon.compare(found, main)
            assert neon.address(found, pooled=True).is_pooled
            before = datetime.now(UTC) + DAY * 2
            assert neon.expire(found, before).expires_at == before.replace(microsecond=0)

            lsn = project.checkpoint("pr-1")
            execute(found, "drop table made_here")
            neon.restore(found, found.id, lsn=lsn, keep_as="pr-1-before")
            execute(found, "table made_here")
            project.advance(seconds=1)  # the API takes whole seconds
            neon.restore(found, found.id, at=project.now(), keep_as="pr-1-again")
            execute(found, "table made_here")
            neon.restore(found, main.id)
            with pytest.raises(psycopg.errors.UndefinedTable):
                execute(found, "table made_here")

            assert neon.delete(found) is True
            assert neon.delete(found) is False
            with pytest.raises(ToolError, match=r"branch not found \(404 "):
                neon.expire(found, before)
            assert {each.name for each in neon.branches()} == {"main", "pr-1-before", "pr-1-again"}
        unused = [
            pattern
            for method, pattern, *_ in ROUTES
            if not any(
                (each.method, 200 <= int(each.status) < 300) == (method, True)
                and re.fullmatch(pattern, each.path)
                for each in api.requests
            )
        ]
        assert unused == []


def test_a_stand_in_that_drifts_is_noticed(server: LocalServer) -> None:
    with neon_api(server) as api, prism(api.url) as url:
        api.fail(200, answer={"branches": [{"id": "br-1"}]})
        answer = httpx.get(
            f"{url}/projects/{api.project.id}/branches",
            headers={"Authorization": f"Bearer {api.key}"},
            trust_env=False,
        )
    assert answer.status_code == 500
    assert "must have required property" in answer.text
