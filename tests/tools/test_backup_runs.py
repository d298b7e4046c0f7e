"""Runs that are ended, starved or watched: nothing is half done, and no password is told."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from scripts.address import Address
from scripts.backup.archive import backup, restore
from scripts.database import connect
from scripts.errors import ToolError
from scripts.scratch import scratch_database
from scripts.server import LocalServer
from scripts.settings import ROOT, project
from tests.runner.test_commands import wait_for
from tests.support.commands import run, run_json

pytestmark = pytest.mark.row("R28")

MB = 16
"""Of bytes that no compression makes fewer; as text they are twice as many."""

PASSWORD = "hunter2 secret"  # pragma: allowlist secret
FILL = """
create table big as
select i, string_agg(sha512(int8send(i * 16 + j)), '') as bytes
from generate_series(1, {}) as i, generate_series(1, 16) as j
group by i
"""


def make_big(address: Address, megabytes: int) -> None:
    with connect(address, purpose="test") as connection:
        connection.execute(FILL.format(megabytes * 1024).encode())


@pytest.fixture(scope="module")
def big(server: LocalServer) -> Iterator[Address]:
    with scratch_database(server) as address:
        make_big(address, MB)
        yield address


@pytest.fixture(scope="module")
def big_backup(big: Address, module_folder: Path) -> Path:
    file = module_folder / "big"
    backup(big, file, progress=lambda *_: None)
    return file


@pytest.fixture
def watcher(server: LocalServer) -> Iterator[psycopg.Connection[Any]]:
    with connect(server.superuser, purpose="watcher") as connection:
        yield connection


def start(*arguments: str | Path, address: Address, prefix: str = "") -> subprocess.Popen[str]:
    """Start a command, after what the shell is told first."""
    words = ["-m", "scripts", *map(str, arguments)]
    return subprocess.Popen(
        ["bash", "-c", f'{prefix} exec "$0" "$@"', sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "MIGRATION_DATABASE_URL": address.secret_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sessions(watcher: psycopg.Connection[Any], address: Address, application: str) -> list[int]:
    query = "select pid from pg_stat_activity where datname = %s and application_name = %s"
    return [pid for (pid,) in watcher.execute(query, [address.database, application])]


def dumping(process: subprocess.Popen[str]) -> psutil.Process | None:
    """The pg_dump that writes, not one that is asked for its version."""
    children = psutil.Process(process.pid).children()
    with suppress(psutil.Error):  # it has just ended
        return next((each for each in children if "--format=custom" in each.cmdline()), None)
    return None


@contextmanager
def stopped(
    process: subprocess.Popen[str], watcher: psycopg.Connection[Any], address: Address
) -> Iterator[psutil.Process]:
    """Stop a backup while pg_dump, which is given, waits for its output to be read."""
    dump = wait_for(lambda: dumping(process))
    process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: sessions(watcher, address, "pg_dump"))
        yield dump
    finally:
        process.send_signal(signal.SIGCONT)


def is_whole(file: Path) -> bool:
    document = json.loads(file.with_name(f"{file.name}.json").read_text())
    return document["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def killed_backups(
    big: Address, folder: Path, watcher: Any, rounds: int, longest: float = 0.8
) -> int:
    """Kill backups at any moment; the file is absent or whole. Return how many left something."""
    chance = random.Random(1)
    file, leftovers = folder / "big", 0
    for _ in range(rounds):
        with start("backup", file, address=big) as process:
            wait_for(lambda: any(folder.iterdir()) or process.poll() is not None)
            try:
                process.wait(chance.uniform(0, longest))
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
        wait_for(lambda: not sessions(watcher, big, "pg_dump"), seconds=5)
        if file.exists():
            assert is_whole(file)
            file.unlink()
            file.with_name("big.json").unlink()
        leftovers += bool(list(folder.iterdir()))
    assert run_json("backup", str(file), MIGRATION_DATABASE_URL=big.url)["ok"]
    assert sorted(path.name for path in folder.iterdir()) == ["big", "big.json"]
    assert is_whole(file)
    return leftovers


def test_a_killed_backup_leaves_no_file_that_is_not_whole_and_no_pg_dump(
    big: Address, tmp_path: Path, watcher: Any
) -> None:
    assert killed_backups(big, tmp_path, watcher, 10) > 3


def test_what_a_run_killed_between_the_two_names_has_left_is_replaced(
    scratch: Address, tmp_path: Path
) -> None:
    for name in ("f.partial", "f.json.partial"):
        (tmp_path / name).write_text("left")
        (tmp_path / name).chmod(0o666)
    (tmp_path / "f.json").hardlink_to(tmp_path / "f.json.partial")
    backup(scratch, tmp_path / "f", progress=lambda *_: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "f.json"]
    assert is_whole(tmp_path / "f")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_file_that_appears_meanwhile_is_not_overwritten(big: Address, tmp_path: Path) -> None:
    file = tmp_path / "big"
    with pytest.raises(ToolError) as caught:
        backup(big, file, progress=lambda *_: file.write_text("precious") and None)
    assert caught.value.findings[0].code == "exists"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("big", "precious")]


def test_ctrl_c_leaves_nothing(big: Address, tmp_path: Path, watcher: Any) -> None:
    with start("backup", tmp_path / "big", address=big) as process:
        with stopped(process, watcher, big):
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == "error: interrupted: what was running has left nothing behind\n"
    assert list(tmp_path.iterdir()) == []
    wait_for(lambda: not sessions(watcher, big, "pg_dump"), seconds=5)


@pytest.mark.parametrize("ends", ["the program", "pg_dump", "schema-backup"])
def test_what_ends_too_early_leaves_nothing_and_is_told(
    big: Address, tmp_path: Path, watcher: Any, ends: str
) -> None:
    with start("backup", tmp_path / "big", "--json", address=big) as process:
        with stopped(process, watcher, big) as dump:
            if ends == "the program":
                dump.kill()
            for pid in sessions(watcher, big, ends):
                watcher.execute("select pg_terminate_backend(%s)", [pid])
        output, errors = process.communicate(timeout=20)
    (finding,) = json.loads(output)["findings"]
    assert (process.returncode, finding["code"], errors) == (1, "database", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["backup", "export"])
def test_a_file_that_cannot_grow_is_told_and_removed(
    big: Address, tmp_path: Path, name: str
) -> None:
    limit = "ulimit -f 10000;"  # KiB; a full disk is told in the same way
    with start(name, tmp_path / "big", "--json", address=big, prefix=limit) as process:
        output, _ = process.communicate(timeout=60)
    (finding,) = json.loads(output)["findings"]
    assert (finding["code"], finding["message"]) == ("file", "File too large")
    assert finding["file"] == str(tmp_path / "big")
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_for_the_same_file_is_refused_and_harms_nothing(
    big: Address, tmp_path: Path, watcher: Any
) -> None:
    with start("backup", tmp_path / "big", address=big) as process:
        with stopped(process, watcher, big):
            second = run("backup", str(tmp_path / "big"), "--json", MIGRATION_DATABASE_URL=big.url)
        process.communicate(timeout=60)
    assert json.loads(second.stdout)["findings"][0]["code"] == "locked"
    assert process.returncode == 0
    assert is_whole(tmp_path / "big")


def test_no_argument_of_a_process_has_the_password(
    big: Address, tmp_path: Path, watcher: Any
) -> None:
    address = big.with_(password=PASSWORD)
    with start("backup", tmp_path / "big", address=address) as process:
        with stopped(process, watcher, big) as dump:
            arguments, environment = dump.cmdline(), dump.environ()
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert environment["PGPASSWORD"] == PASSWORD
    assert "hunter2" not in " ".join(arguments) + output + errors


def raising(at: str) -> Callable[[str, int, int | None], None]:
    def progress(name: str, count: int, total: int | None) -> None:
        if name == at:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_restore_says_what_is_there(
    big_backup: Path, scratch: Address, server: LocalServer
) -> None:
    with pytest.raises(KeyboardInterrupt):
        restore(scratch, big_backup, roles=project().roles, progress=raising("MiB of SQL"))
    with connect(scratch, purpose="test") as connection:
        there = "select to_regclass('big') is not null"
        assert connection.execute(there).fetchone() == (False,)
        with pytest.raises(ToolError) as caught:
            restore(scratch, big_backup, roles=project().roles, progress=raising("tables hashed"))
        assert connection.execute(there).fetchone() == (True,)
    assert (caught.value.status, caught.value.findings[0].code) == (130, "interrupted")
    assert "was not compared" in caught.value.findings[0].message


def killed_restores(file: Path, scratch: Address, watcher: Any, rounds: int) -> int:
    """Kill restores at any moment; all is there or nothing is. Return how many left nothing."""
    chance = random.Random(2)
    nothing = 0
    for _ in range(rounds):
        with start("restore", file, address=scratch) as process:
            wait_for(lambda: sessions(watcher, scratch, "psql") or process.poll() is not None)
            try:
                process.wait(chance.uniform(0, 0.05 * MB))
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
        wait_for(lambda: not sessions(watcher, scratch, "psql"), seconds=5)
        with connect(scratch, purpose="test") as connection:
            if connection.execute("select to_regclass('big')").fetchone() == (None,):
                nothing += 1
            else:
                count = connection.execute("select count(*) from big").fetchone()
                assert count == (MB * 1024,)
                connection.execute("drop table big")
    return nothing


def test_a_killed_restore_leaves_all_or_nothing(
    big_backup: Path, scratch: Address, watcher: Any
) -> None:
    assert killed_restores(big_backup, scratch, watcher, 4) > 1


# Not ru_maxrss, which begins with the memory of the process that forked.
WATCHED = """
import atexit, runpy, sys
status = lambda: open("/proc/self/status").read()
atexit.register(lambda: print(status().split("VmHWM:")[1].split()[0], file=sys.stderr))
runpy.run_module("scripts", run_name="__main__", alter_sys=True)
"""


def peak(*arguments: str | Path, address: Address) -> int:
    """Return the most memory that a command had, in MB."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "MIGRATION_DATABASE_URL": address.url},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stderr) // 1024


def memory(server: LocalServer, big: Address, folder: Path) -> dict[str, int]:
    """Return by how much each command's peak grows from no rows to the big table, in MB."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process's memory is told by Linux alone")
    peaks: dict[str, list[int]] = {}
    for name in ("small", "big"):
        with scratch_database(server) as source, scratch_database(server) as target:
            address = big if name == "big" else source
            for command, place, where in (
                ("backup", f"{name}.backup", address),
                ("restore", f"{name}.backup", target),
                ("export", f"{name}.csv", address),
            ):
                peaks.setdefault(command, []).append(peak(command, folder / place, address=where))
    assert (folder / "big.backup").stat().st_size > MB * 2**20
    return {command: after - before for command, (before, after) in peaks.items()}


def test_memory_does_not_grow_with_the_data(
    server: LocalServer, big: Address, tmp_path: Path
) -> None:
    grown = memory(server, big, tmp_path)
    assert max(grown.values()) < 8, grown
