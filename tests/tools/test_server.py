"""The local server: started, found again after every accident, and removed without a trace."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import sysconfig
import timeit
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from scripts.address import Address, parse_address
from scripts.binaries import can_reach, embedded_binaries, run, service_account
from scripts.errors import ToolError
from scripts.scratch import scratch_database
from scripts.server import OUTSIDE, LocalServer
from scripts.settings import ROOT, project
from tests.runner.test_commands import wait_for
from tests.support.postgres import binaries

FAST = {"fsync": "off", "max_connections": "20", "shared_buffers": "16MB"}
START = """
import sys
from pathlib import Path
from scripts.server import LocalServer
server = LocalServer(Path(sys.argv[1]))
print(server.start())
"""

Make = Callable[..., LocalServer]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives processes other users")


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    """A function that gives a server in a folder of the test's; all are removed at the end."""
    servers: list[LocalServer] = []

    def make(where: str | Path = "local", binaries: Path | None = None) -> LocalServer:
        servers.append(LocalServer(folder / where, binaries, FAST))
        return servers[-1]

    yield make
    for server in servers:
        server.remove()


@pytest.fixture(scope="module")
def shared(module_folder: Path) -> Iterator[LocalServer]:
    server = LocalServer(module_folder / "local", settings=FAST)
    yield server
    server.remove()


@pytest.fixture
def server(shared: LocalServer) -> LocalServer:
    """A running server with a new database `todo`; shared by the tests that can start it again."""
    shared.start()
    shared.recreate_database("todo", "owner")
    return shared


def sessions(address: Address) -> psycopg.Connection:
    return psycopg.connect(**address.parameters, autocommit=True, connect_timeout=5)


def ask(address: Address, statement: str) -> tuple[object, ...] | None:
    """Run a statement; return the first row, where it gives rows."""
    with sessions(address) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone() if cursor.description else None


def starting(server: LocalServer) -> subprocess.Popen[str]:
    """A process of its own that makes and starts the server."""
    command = [sys.executable, "-c", START, str(server.home.parent)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def pid_file(server: LocalServer) -> Path:
    return server.home / "data/postmaster.pid"


def process_of(server: LocalServer) -> psutil.Process:
    return psutil.Process(int(pid_file(server).read_text().split()[0]))


def is_alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


def kill(server: LocalServer) -> None:
    process = process_of(server)
    process.kill()
    wait_for(lambda: not is_alive(process), seconds=10)


def test_it_starts_once_and_a_repeat_is_cheap(server: LocalServer) -> None:
    process = process_of(server)
    assert server.is_running
    assert server.start() is False
    assert process_of(server) == process
    assert min(timeit.repeat(server.start, number=5)) / 5 < 0.05
    assert min(timeit.repeat(lambda: server.is_running, number=5)) / 5 < 0.01


def test_of_two_starts_at_once_one_starts_and_remove_leaves_nothing(
    folder: Path, make: Make
) -> None:
    server = make()
    starts = [starting(server), starting(server)]
    assert sorted(start.communicate(timeout=30)[0].strip() for start in starts) == ["False", "True"]
    assert server.is_running
    process = process_of(server)
    assert server.remove() is True
    assert list(folder.iterdir()) == []
    assert not is_alive(process)
    assert server.remove() is False
    with pytest.raises(ToolError, match="no local server yet") as raised:
        server.address("owner", "todo")
    (finding,) = raised.value.findings
    assert (finding.code, finding.fix) == ("local-server", "make up")


def test_it_starts_after_kill_9_with_a_busy_session(server: LocalServer) -> None:
    address = server.address("owner", "todo")
    ask(address, "create table kept ()")
    with closing(sessions(address)) as busy:
        busy.pgconn.send_query(b"do $$ begin loop null; end loop; end $$")
        state = f"select state = 'active' from pg_stat_activity where pid = {busy.info.backend_pid}"
        wait_for(lambda: ask(address, state) == (True,), seconds=10)
        orphan = psutil.Process(busy.info.backend_pid)
        kill(server)
        assert server.is_running is False
        assert is_alive(orphan)
        assert server.start() is True
        assert not is_alive(orphan)
    assert ask(address, "select count(*) from kept") == (0,)


@pytest.mark.parametrize("is_server", [True, False], ids=["postgres", "python"])
def test_a_stale_pid_file_that_names_a_foreign_process_is_not_believed(
    server: LocalServer, make: Make, is_server: bool
) -> None:
    other = make("other")
    if is_server:
        other.start()
    pid = process_of(other).pid if is_server else os.getpid()
    kill(server)
    _, *lines = pid_file(server).read_text().splitlines()
    stale = "\n".join([str(pid), *lines])
    pid_file(server).write_text(stale)
    assert server.is_running is False
    assert server.stop() is False
    pid_file(server).write_text(stale)
    assert server.start() is True
    assert other.is_running is is_server


def test_data_and_port_are_kept_unless_somebody_has_the_port(server: LocalServer) -> None:
    ask(server.address("owner", "todo"), "create table kept ()")
    ports = [server.superuser.port]
    assert server.stop() is True
    assert server.is_running is False
    assert server.stop() is False
    with socket.create_server(("127.0.0.1", ports[0])):
        assert server.start() is True
        ports.append(server.superuser.port)
    server.stop()
    assert server.start() is True
    assert server.superuser.port == ports[1] != ports[0]
    assert ask(server.address("owner", "todo"), "select count(*) from kept") == (0,)


@pytest.mark.parametrize("lost", ["data", "server.json"])
def test_it_is_made_anew_when_a_part_is_gone(server: LocalServer, lost: str) -> None:
    process = process_of(server)
    if lost == "data":
        server.stop()
        shutil.rmtree(server.home / lost)
    else:
        (server.home / lost).unlink()
    assert server.is_running is False
    assert server.start() is True
    assert not is_alive(process)
    assert ask(server.superuser, "select current_user") == ("postgres",)


def test_it_starts_after_initdb_was_killed(make: Make) -> None:
    server = make()
    with starting(server) as start:
        wait_for((server.home / "data/PG_VERSION").exists, seconds=10)
        start.kill()
    assert not (server.home / "server.json").exists()
    assert server.start() is True
    names = sorted(path.name for path in server.home.iterdir())
    assert names == ["data", "pg_hba.conf", "server.json"]
    assert ask(server.superuser, "select 1") == (1,)


def test_a_copied_checkout_leaves_the_server_alone(
    server: LocalServer, folder: Path, make: Make
) -> None:
    shutil.copytree(server.home.parent, folder / "copy", ignore_dangling_symlinks=True)
    copy = make("copy")
    assert copy.is_running is False
    assert not copy.owns(server.address("owner", "todo"))
    assert copy.stop() is False
    assert copy.remove() is True
    copy.start()
    assert copy.superuser.port != server.superuser.port
    assert ask(server.superuser, "select 1") == ask(copy.superuser, "select 1") == (1,)


def test_a_moved_checkout_keeps_its_server(folder: Path, make: Make) -> None:
    server = make()
    server.start()
    address = server.prepare("owner", "todo")
    ask(address, "create table kept ()")
    for name, runs in (("running", True), ("stopped", False)):
        if not runs:
            server.stop()
        server = make(server.home.parent.rename(folder / name))
        assert server.start() is not runs
        assert server.address("owner", "todo") == address
        assert ask(address, "select count(*) from kept") == (0,)
        assert ask(server.superuser, "select current_user") == ("postgres",)


@as_root
def test_as_root_in_a_private_folder_it_lives_outside(tmp_path: Path, make: Make) -> None:
    tmp_path.chmod(0o700)
    package = embedded_binaries().parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        (tmp_path / part.name).symlink_to(part)
    private = tmp_path / embedded_binaries().relative_to(package.parent)
    server = make(tmp_path / "local", private)
    server.start()
    home, process, port = server.home, process_of(server), server.superuser.port
    assert home.parent == OUTSIDE
    assert (tmp_path / "local/server").readlink() == home
    assert process.exe().startswith(str(home / "binaries"))
    assert process.uids().real != 0
    assert (home / "binaries").stat().st_uid == 0

    server.stop()
    assert server.start() is True
    assert (server.home, server.superuser.port) == (home, port)

    shutil.copytree(tmp_path / "local", tmp_path / "copy", symlinks=True)
    assert make(tmp_path / "copy").stop() is False

    process = process_of(server)
    shutil.rmtree(tmp_path / "local")  # as `git clean` does
    assert server.is_running is False
    assert server.start() is True
    assert not is_alive(process)
    server.remove()
    assert not home.exists()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@as_root
def test_an_ordinary_user_runs_it(folder: Path) -> None:
    account = service_account()
    assert account is not None
    candidates = [Path(sys.executable).resolve(), Path("/usr/bin/python3.11")]
    python = next((path for path in candidates if can_reach(path)), None)
    if python is None or not can_reach(embedded_binaries() / "postgres"):
        pytest.skip("another user can run neither this Python nor the binaries")
    os.chown(folder, account.pw_uid, account.pw_gid)
    script = START + (
        "print(server.start(), server.home, server.prepare('owner', 'todo').port > 0)\n"
        "print(server.remove())\n"
    )
    variables = (f"PYTHONPATH={sysconfig.get_path('purelib')}", "PYTHONDONTWRITEBYTECODE=1")
    command = ("env", *variables, python, "-c", script, folder / "local")
    told = run(*command, timeout=30, cwd=ROOT).stdout
    assert told == f"True\nFalse {folder / 'local/server'} True\nTrue\n"
    assert list(folder.iterdir()) == []


def test_only_the_password_makes_a_superuser(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        ask(server.address("postgres", "postgres"), "select 1")
    for statement in ("copy (select 1) to program 'true'", "alter role owner superuser"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(server.address("owner", "todo"), statement)

    monkeypatch.setenv("PGPASSWORD", "another server's")
    monkeypatch.setenv("PGSSLMODE", "require")
    assert ask(server.superuser, "select current_user") == ("postgres",)

    password = str(server.superuser.parameters["password"])
    assert len(password) > 20
    shown = [repr(server.superuser), str(server.superuser), server.superuser.url, repr(server)]
    assert not [text for text in shown if password in text]
    files = [path for path in server.home.rglob("*") if path.is_file()]
    knowing = [path for path in files if password.encode() in path.read_bytes()]
    assert knowing == [server.home / "server.json"]
    assert stat.S_IMODE(knowing[0].stat().st_mode) == 0o600


def test_it_owns_the_one_address_where_it_listens(server: LocalServer) -> None:
    port = server.superuser.port
    listening = [c for c in process_of(server).net_connections("all") if c.status == "LISTEN"]
    assert [c.laddr for c in listening] == [("127.0.0.1", port)]
    cases = {
        f"postgresql://owner@127.0.0.1:{port}/todo": True,
        f"postgres://owner:secret@localhost:{port}/other": True,  # pragma: allowlist secret
        f"postgresql://owner@127.0.0.1:{port + 1}/todo": False,
        f"postgresql://owner@db.example.com:{port}/todo": False,
        f"postgresql://owner@localhost:{port}/todo?hostaddr=192.0.2.1": False,
    }
    assert {url: server.owns(parse_address(url, "test")) for url in cases} == cases
    server.stop()
    assert not server.owns(server.address("owner", "todo"))


def test_the_owner_is_what_it_is_at_neon_and_its_roles_may_log_in(server: LocalServer) -> None:
    owner = server.prepare("owner", "todo")
    assert owner == server.address("owner", "todo")
    assert ask(
        owner,
        "select rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolbypassrls,"
        " pg_has_role('pg_monitor', 'member'), pg_has_role('pg_signal_backend', 'member')"
        " from pg_roles where rolname = current_user",
    ) == (True, False, True, True, True, True, True)
    assert ask(
        owner,
        "select pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datlocprovider,"
        " datlocale, nspowner::regrole::text"
        " from pg_database, pg_namespace where datname = 'todo' and nspname = 'public'",
    ) == ("owner", "UTF8", "b", "C.UTF-8", "owner")
    # Letters are letters, and typographic signs are none.
    assert ask(owner, "select to_tsvector('simple', '“ÄÖ” — x')::text") == ("'x':2 'äö':1",)
    ask(owner, "drop role if exists app; create role app nologin")
    server.allow_logins()
    assert ask(server.address("app", "todo"), "select current_user") == ("app",)
    others = "select count(*) from pg_roles where rolname ~ '^pg_' and rolcanlogin"
    assert ask(server.superuser, others) == (0,)


def test_a_database_is_made_again_while_it_is_used(server: LocalServer) -> None:
    address = server.address("owner", "todo")
    with sessions(address) as connection:
        connection.execute("create table gone ()")
        assert server.recreate_database("todo", "owner") == address
    assert ask(address, "select to_regclass('gone')") == (None,)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"settings": {"work_mem": "much"}}, 'invalid value for parameter "work_mem": "much"'),
        ({"binaries": Path("/nowhere/postgres/bin")}, "No such file or directory"),
        ({"folder": Path(__file__)}, "File exists"),
    ],
)
def test_a_failure_says_what_and_the_next_step(
    server: LocalServer, options: dict[str, Any], reason: str
) -> None:
    server.stop()
    with pytest.raises(ToolError) as raised:
        LocalServer(**{"folder": server.home.parent, **options}).start()
    (finding,) = raised.value.findings
    assert finding.code == "local-server"
    assert reason in finding.message
    assert "make clean" in str(finding.fix)


def test_scratch_databases_are_dropped(server: LocalServer) -> None:
    server.stop()
    with suppress(ZeroDivisionError), scratch_database(server) as address:
        assert ask(address, "select current_user") == (project().local_owner,)
        with sessions(address):
            raise ZeroDivisionError
    names = "select array_agg(datname::text order by datname) from pg_database"
    known = ["postgres", "template0", "template1", "todo"]
    assert ask(server.superuser, names) == (known,)

    with subprocess.Popen(["true"]) as gone:
        pass
    server.create_database(f"scratch_{gone.pid}_0123abcd", "owner")
    server.create_database(f"scratch_{os.getpid()}_0123abcd", "owner")
    with scratch_database(server):
        pass
    assert ask(server.superuser, names) == (sorted([*known, f"scratch_{os.getpid()}_0123abcd"]),)


@pytest.mark.parametrize("version", [16, 17])
def test_it_runs_other_versions(make: Make, version: int) -> None:
    server = make(binaries=binaries(version))
    server.start()
    address = server.prepare("owner", "todo")
    with sessions(address) as connection:
        assert connection.info.server_version // 10000 == version
    query = "select lower('ÄÖ'), 'a' > 'Z', to_tsvector('simple', '“x”')::text"
    assert ask(address, query) == ("äö", True, "'x':1")
