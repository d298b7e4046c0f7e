"""The client against a Neon that is busy, late, out of reach, or that loses its answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from scripts.database import connect, with_tls
from scripts.errors import Finding, ToolError
from scripts.neon.api import LEAST, TRIES
from scripts.neon.client import Branch, Client
from scripts.neon.settings import NeonSettings
from scripts.server import LocalServer
from scripts.settings import ROOT
from tests.support.commands import run
from tests.support.neon.api import NeonApi, neon_api
from tests.support.neon.requests import create_branch

pytestmark = pytest.mark.row("R27")

DAY = timedelta(days=1)
LIST = "neon", "branch", "list"


@pytest.fixture
def neon(server: LocalServer) -> Iterator[NeonApi]:
    """A project whose main branch is empty, and where nothing takes time unless a test wants it."""
    with neon_api(server, seconds=0) as neon:
        yield neon


def client(neon: NeonApi, timeout: float = 60, **told: Any) -> Client:
    project = neon.project
    settings = NeonSettings(neon.key, project.id, project.database, project.role, neon.url)
    assert neon.key not in repr(settings)
    return Client(settings, timeout=timeout, **told)


def create(client: Client, name: str) -> Branch:
    main = client.find("main")
    assert main
    return client.create(name, parent=main.id, expires_at=datetime.now(UTC) + DAY)


@contextmanager
def refused(neon: NeonApi, code: str) -> Iterator[list[Finding]]:
    """Expect an error of one finding, which is given, and has neither key nor password."""
    findings: list[Finding] = []
    with pytest.raises(ToolError) as refusal:
        yield findings
    findings += refusal.value.findings
    (finding,) = findings
    assert finding.code == code, finding
    assert finding.fix
    assert "\n" not in finding.message
    for secret in (neon.key, neon.project.password):
        assert secret not in f"{finding} {refusal.value!r}"


def sent(neon: NeonApi, method: str) -> list[int | str]:
    """Return how each request of a method went."""
    return [request.status for request in neon.requests if request.method == method]


# One request of each method. What it changes is there before; POST is the restore.
ASKING: dict[str, Callable[[Client, Branch], Any]] = {
    "GET": lambda client, branch: list(client.branches(branch.name)),
    "POST": lambda client, branch: client.restore(branch, branch.parent_id or ""),
    "PATCH": lambda client, branch: client.expire(branch, datetime.now(UTC) + DAY),
    "DELETE": lambda client, branch: client.delete(branch),
}


@pytest.mark.parametrize("status", [423, 429, 503])
def test_an_answer_that_nothing_was_done_is_asked_again(neon: NeonApi, status: int) -> None:
    with client(neon) as api:
        branch = create(api, "pr-1")
        for method, ask in ASKING.items():
            neon.requests.clear()
            neon.fail(status, method)
            ask(api, branch)
            assert sent(neon, method)[:2] == [status, 200], method


@pytest.mark.parametrize("fault", [500, 502, 504, "drop", "garbage"])
def test_what_may_have_been_done_is_asked_again_by_get_alone(
    neon: NeonApi, fault: int | str
) -> None:
    with client(neon) as api:
        branch = create(api, "pr-1")
        for method, ask in ASKING.items():
            neon.requests.clear()
            neon.fail(fault, method)
            if method == "GET":
                ask(api, branch)
                assert len(sent(neon, method)) > 1
                continue
            with refused(neon, "neon-api" if isinstance(fault, int) else "neon-unreachable") as why:
                ask(api, branch)
            assert len(sent(neon, method)) == 1, method
            assert isinstance(fault, int) or "whether it was done is unknown" in why[0].message


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422])
def test_a_refusal_is_final(neon: NeonApi, status: int) -> None:
    with client(neon) as api:
        branch = create(api, "pr-1")
        for method, ask in ASKING.items():
            neon.requests.clear()
            neon.fail(status, method)
            with refused(neon, "neon-api") as why:
                ask(api, branch)
            assert sent(neon, method) == [status], method
            assert f"({status} " in why[0].message


def test_a_get_without_an_answer_is_not_asked_forever(neon: NeonApi) -> None:
    neon.fail("drop", times=100)
    with client(neon) as api, refused(neon, "neon-unreachable"):
        list(api.branches())
    assert len(neon.requests) == TRIES


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for(neon: NeonApi, form: str) -> None:
    # A date is of whole seconds, so it may be nearly one short.
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    neon.fail(429, retry_after="1" if form == "seconds" else date)
    begun = time.monotonic()
    with client(neon) as api:
        list(api.branches())
    assert time.monotonic() - begun > 0.9
    assert sent(neon, "GET") == [429, 200]


@pytest.mark.parametrize("retry_after", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT", "9" * 30])
def test_a_retry_after_beyond_the_time_left_ends_at_once(neon: NeonApi, retry_after: str) -> None:
    neon.fail(429, times=9, retry_after=retry_after)
    begun = time.monotonic()
    with client(neon) as api, refused(neon, "neon-timeout"):
        list(api.branches())
    assert time.monotonic() - begun < 30
    assert sent(neon, "GET") == [429]


@pytest.mark.parametrize("retry_after", ["-5", "soon", "", "nan", "1e400", "Fri, 31 Feb 2100"])
def test_a_retry_after_that_says_nothing_is_left_out(neon: NeonApi, retry_after: str) -> None:
    neon.fail(429, retry_after=retry_after)
    with client(neon) as api:
        list(api.branches())
    assert sent(neon, "GET") == [429, 200]


@pytest.mark.parametrize("fault", ["drop", 500])
def test_a_branch_whose_answer_was_lost_is_found_and_not_made_again(
    neon: NeonApi, fault: str | int
) -> None:
    with client(neon) as api:
        neon.fail(fault, "POST", after=True)
        made = create(api, "pr-1")
        assert made.name == "pr-1"
        connect(api.address(made), purpose="test").close()
    assert sent(neon, "POST") == [fault]


def test_two_runs_that_make_the_same_branch_get_the_same(neon: NeonApi) -> None:
    neon.project.seconds = 0.2

    def make(_: int) -> Branch:
        with client(neon) as api:
            return create(api, "pr-1")

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(make, range(4)))
    assert len({branch.id for branch in made}) == 1
    assert sorted(map(str, sent(neon, "POST")))[:2] == ["201", "409"]


def test_a_branch_that_was_not_made_is_not_mistaken_for_another(neon: NeonApi) -> None:
    with client(neon) as api:
        create(api, "pr-12")
        neon.fail("drop", "POST")
        with refused(neon, "neon-unreachable"):
            create(api, "pr-1")
    assert {branch.name for branch in neon.project.branches.values()} == {"main", "pr-12"}


@pytest.mark.parametrize("fault", ["never", "trickle"])
def test_the_time_is_bounded_whatever_comes(neon: NeonApi, fault: str) -> None:
    with client(neon) as api:
        branch = create(api, "pr-1")
    neon.fail(fault, times=100, seconds=0.5)  # two minutes for an answer

    def seconds(method: str) -> float:
        begun = time.monotonic()
        with client(neon, timeout=1) as api, refused(neon, "neon-unreachable"):
            ASKING[method](api, branch)
        return time.monotonic() - begun

    with ThreadPoolExecutor(len(ASKING)) as pool:
        assert max(pool.map(seconds, ASKING)) < 10


def test_a_neon_that_stays_busy_is_given_up(neon: NeonApi) -> None:
    neon.fail(503, times=1000)
    begun = time.monotonic()
    with client(neon, timeout=3) as api, refused(neon, "neon-timeout"):
        list(api.branches())
    assert time.monotonic() - begun < 10
    assert len(neon.requests) > 1


def test_no_request_is_begun_whose_answer_could_come_too_late(neon: NeonApi) -> None:
    neon.fail(503, times=1000, retry_after="2")
    with client(neon, timeout=2 + LEAST / 2) as api, refused(neon, "neon-timeout"):
        list(api.branches())
    assert len(neon.requests) == 1


def test_a_server_that_is_not_there_is_told(neon: NeonApi) -> None:
    neon.url = "http://127.0.0.1:1/api/v2"
    with client(neon, timeout=3) as api, refused(neon, "neon-unreachable") as why:
        list(api.branches())
    assert "127.0.0.1:1" in why[0].message


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_every_page_is_read_once(neon: NeonApi, count: int) -> None:
    # A page has two branches; where the last one is full, an empty one follows.
    names = ["main", *(f"pr-{number}" for number in range(1, count))]
    for name in names[1:]:
        create_branch(neon.project, {}, {"branch": {"name": name}})
    with client(neon) as api:
        assert sorted(branch.name for branch in api.branches()) == names
    assert len(neon.requests) == count // 2 + 1


def test_a_name_is_found_among_those_that_hold_it(neon: NeonApi) -> None:
    for name in ("pr-10", "old-pr-1", "pr-1", "pr-11"):
        create_branch(neon.project, {}, {"branch": {"name": name}})
    with client(neon) as api:
        found = api.find("pr-1")
        assert found
        assert found.name == "pr-1"
        assert api.find("pr") is None
        assert api.find(found.id) is None


def test_an_address_elsewhere_is_reached_with_its_certificate_verified(neon: NeonApi) -> None:
    uri = (
        "postgresql://o:p@ep-x.eu.aws.neon.tech/neondb?sslmode=require"  # pragma: allowlist secret
    )
    with client(neon) as api:
        branch = create(api, "pr-1")
        neon.fail(200, "GET", "/connection_uri", answer={"uri": uri})
        parameters = with_tls(api.address(branch)).parameters
    assert parameters["sslmode"] == "verify-full"
    assert parameters["channel_binding"] == "require"
    assert Path(parameters["sslrootcert"]).is_file()


def test_only_what_is_asked_of_neon_takes_time(neon: NeonApi) -> None:
    with client(neon, timeout=3) as api:
        branch = create(api, "pr-1")
        time.sleep(3)  # as a person thinks, or a migration runs
        assert api.delete(branch)


def test_an_operation_is_waited_for(neon: NeonApi) -> None:
    told: list[tuple[str, str]] = []
    neon.project.seconds = 0.7
    with client(neon, told=lambda *what: told.append(what)) as api:
        address = api.address(create(api, "pr-1"))
        connect(address, purpose="test").close()
        branch = api.find("pr-1")
        assert branch
        database = neon.project.branch("pr-1").database
        assert api.delete(branch)
    assert told[0] == ("create_branch", "scheduling")
    assert told[-1] == ("delete_timeline", "finished")
    assert len(told) == len(set(told))
    with connect(neon.project.address("main"), purpose="test") as connection:
        query = "select from pg_database where datname = %s"
        assert connection.execute(query, [database]).rowcount == 0


@pytest.mark.parametrize("outcome", ["failed", "error", "cancelled"])
def test_an_operation_that_fails_is_told(neon: NeonApi, outcome: str) -> None:
    neon.project.outcomes = [outcome]
    with client(neon) as api, refused(neon, "neon-operation") as why:
        create(api, "pr-1")
    assert f"create_branch is {outcome}: " in why[0].message


def test_an_operation_that_is_skipped_is_done(neon: NeonApi) -> None:
    neon.project.outcomes = ["skipped"]
    with client(neon) as api:
        connect(api.address(create(api, "pr-1")), purpose="test").close()


def test_a_late_operation_is_given_up_and_taken_up_again(neon: NeonApi) -> None:
    neon.project.seconds = 3600
    with client(neon, timeout=2) as api, refused(neon, "neon-timeout") as why:
        create(api, "pr-1")
    assert "create_branch" in why[0].message
    neon.project.advance(hours=3)
    with client(neon) as api:
        found = api.find("pr-1")
        assert found
        connect(api.address(api.ready(found)), purpose="test").close()


def test_deleting_what_is_gone_is_told_and_no_error(neon: NeonApi) -> None:
    with client(neon) as api:
        branch = create(api, "pr-1")
        assert api.delete(branch) is True
        assert api.delete(branch) is False
    assert sent(neon, "DELETE") == [200, 204]


def test_a_branch_has_its_own_address(neon: NeonApi) -> None:
    # Without a branch's id the API gives the default branch's.
    with client(neon) as api:
        branch = create(api, "pr-1")
        assert api.address(branch).database == neon.project.branch("pr-1").database
        assert api.address(branch, pooled=True).is_pooled
        assert neon.project.password not in repr(api.address(branch))


def test_a_compute_that_sleeps_is_woken(neon: NeonApi) -> None:
    neon.project.suspended = True
    with client(neon) as api:
        address = api.address(create(api, "pr-1"))
    with refused(neon, "unreachable"):
        connect(address, purpose="test", wake=0)
    with client(neon) as api:
        address = api.address(create(api, "pr-2"))
    connect(address, purpose="test", wake=10).close()


def test_twenty_clients_share_a_project_that_is_always_locked(neon: NeonApi) -> None:
    neon.project.seconds, neon.project.locks_project = 0.01, True

    def work(number: int) -> None:
        with client(neon, timeout=120) as api:
            address = api.address(create(api, f"pr-{number}"))
        with connect(address, purpose="test") as connection:
            connection.execute("create table mine ()")  # fails in a database that is shared

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(work, range(20)))
    assert 423 in sent(neon, "POST")


# Each is an answer that the description does not allow.
@pytest.mark.parametrize(
    "answer",
    [
        {"branches": None},
        {"branches": ["a word"]},
        {"branches": [{"name": "main"}]},
        {"branches": [], "pagination": "next"},
    ],
)
def test_an_answer_of_another_shape_is_told(neon: NeonApi, answer: Any) -> None:
    neon.fail(200, answer=answer)
    with client(neon) as api, refused(neon, "neon-api") as why:
        list(api.branches())
    assert "not as described" in why[0].message


def test_neons_words_come_as_one_line_without_the_key(neon: NeonApi) -> None:
    words = f"the key {neon.key}\nis not \x1b[31mknown" + "!" * 10_000
    neon.fail(401, answer={"message": words, "code": neon.key, "request_id": neon.key})
    with client(neon) as api, refused(neon, "neon-api") as why:
        list(api.branches())
    assert "is not" in why[0].message
    assert why[0].message.isprintable()
    assert len(why[0].message) < 2000


def test_the_key_is_in_no_output(neon: NeonApi) -> None:
    for project, status in ((neon.project.id, 0), ("another", 1)):
        done = run(*LIST, **{**neon.environment, "NEON_PROJECT_ID": project})
        assert done.returncode == status, done.stderr
        assert neon.key not in done.stdout + done.stderr


def test_a_command_that_waits_has_no_key_in_its_arguments_and_can_be_interrupted(
    neon: NeonApi,
) -> None:
    neon.fail("never")
    command = [sys.executable, "-m", "scripts", *LIST]
    environment = {**os.environ, **neon.environment}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            end = time.monotonic() + 30
            while not neon.requests and time.monotonic() < end:
                time.sleep(0.01)
            assert sent(neon, "GET") == ["never"]
            running = psutil.Process(process.pid)
            for each in (running, *running.children(recursive=True)):
                assert neon.key not in " ".join(each.cmdline())
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors
