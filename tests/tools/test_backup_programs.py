"""Which pg_dump is taken: the newest that fits the server, with TLS where the host wants it."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.address import Address
from scripts.backup.archive import restore
from scripts.backup.program import DEBIAN, choose, client_for, installed
from scripts.binaries import embedded_binaries, run, service_account
from scripts.database import connect
from scripts.errors import ToolError
from tests.conftest import enterable_folder
from tests.support.commands import run_json
from tests.support.tls import HOST, PASSWORD, Authority, login, tls_server

pytestmark = pytest.mark.row("R28")


@pytest.fixture(scope="module")
def debian() -> tuple[Path, int]:
    """Debian's newest server and programs before 18, which have TLS, and their version."""
    found = [(int(path.parts[-3]), path.parent) for path in DEBIAN.glob("*/bin/initdb")]
    older = sorted(each for each in found if each[0] < 18)
    if not older:
        pytest.skip("no PostgreSQL of Debian's before 18 (apt-get install postgresql)")
    version, folder = older[-1]
    return folder, version


def refusal(folders: list[Path], server: int, tls_for: str | None) -> str:
    with pytest.raises(ToolError) as caught:
        choose(folders, server=server, tls_for=tls_for)
    (finding,) = caught.value.findings
    assert finding.code == "no-pg-dump"
    assert f"postgresql-client-{server}" in str(finding.fix)
    return finding.message


def test_the_newest_that_fits_is_taken(debian: tuple[Path, int]) -> None:
    folder, version = debian
    both = [folder, embedded_binaries()]
    assert choose(both, server=version, tls_for=None) == embedded_binaries()
    assert choose(both, server=18, tls_for=None) == embedded_binaries()
    assert choose(both, server=version, tls_for="db.example.com") == folder


def test_why_none_fits_is_told_of_each(debian: tuple[Path, int]) -> None:
    folder, version = debian
    assert refusal([folder, embedded_binaries()], 18, "db.example.com") == (
        f"{embedded_binaries()}/pg_dump 18 is built without TLS, which db.example.com wants; "
        f"{folder}/pg_dump {version} is older than the server, 18"
    )
    assert "is older than the server, 19" in refusal([embedded_binaries()], 19, None)
    assert refusal([], 18, None) == "there is no pg_dump"


def test_the_tools_own_path_and_debian_are_looked_at_and_the_wrapper_is_not(
    debian: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = debian
    assert installed()[0] == embedded_binaries()
    assert folder in installed()
    assert Path("/usr/bin") not in installed()
    assert Path("/usr/share/postgresql-common") not in installed()
    with enterable_folder() as copy:
        for name in ("pg_dump", "pg_restore", "psql"):
            shutil.copy(folder / name, copy / name)
        monkeypatch.setenv("PATH", str(copy), prepend=os.pathsep)
        assert installed()[1] == copy
        (copy / "psql").unlink()
        assert copy not in installed()


@pytest.fixture(scope="module")
def old_server(module_folder: Path, debian: tuple[Path, int]) -> Iterator[Address]:
    """A server of Debian's version that is reached over TLS alone, at a host that is not local."""
    binaries, _ = debian
    authority = Authority(module_folder / "authority")
    identity = authority.identity(HOST, "127.0.0.1", account=service_account())
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    data = module_folder / "data"
    data.mkdir(0o700)
    if account := service_account():
        os.chown(data, account.pw_uid, account.pw_gid)
    hba = module_folder / "hba"
    hba.write_text("hostssl all all 127.0.0.0/8 trust\n")
    settings = {
        "listen_addresses": f"127.0.0.1,{HOST}",
        "port": port,
        "unix_socket_directories": "",
        "hba_file": hba,
        "ssl": "on",
        "ssl_cert_file": identity.certificate,
        "ssl_key_file": identity.key,
        "fsync": "off",
    }
    options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
    initdb = (binaries / "initdb", "-N", "-U", "old", "-E", "UTF8", "-D", data)
    assert run(*initdb, timeout=60).returncode == 0
    log = data / "log"
    pg_ctl = (binaries / "pg_ctl", "-D", data)
    started = run(*pg_ctl, "-w", "-l", log, "-o", options, "start", timeout=60)
    assert started.returncode == 0, started.stdout
    try:
        where = {"host": HOST, "port": port, "user": "old", "dbname": "postgres"}
        yield Address({**where, "sslrootcert": str(authority.roots)}, "the test")
    finally:
        run(*pg_ctl, "-m", "immediate", "stop", timeout=60)


def test_a_server_that_wants_tls_is_backed_up_and_restored_by_programs_with_tls(
    old_server: Address, tmp_path: Path
) -> None:
    with connect(old_server, purpose="test") as connection:
        assert connection.pgconn.ssl_in_use
        connection.execute("create table t as select generate_series(1, 1000) as x")
        connection.execute("create database copy")
    told = run_json("backup", str(tmp_path / "f"), MIGRATION_DATABASE_URL=old_server.secret_url)
    assert told["findings"] == []
    assert [(each["table"], each["rows"]) for each in told["tables"]] == [("t", 1000)]
    roles = tmp_path / "roles.sql"
    roles.write_text("select 1")  # ours are for PostgreSQL 16 and later
    copy = old_server.with_(dbname="copy")
    assert restore(copy, tmp_path / "f", roles=roles, progress=lambda *_: None) == told["tables"]


def test_a_server_newer_than_the_programs_with_tls_is_refused(
    debian: tuple[Path, int], tmp_path: Path
) -> None:
    with enterable_folder() as folder:
        authority = Authority(folder / "authority")
        with tls_server(folder, authority) as server:
            server.create_database("x", "x")
            address = login(server, "x", "x").with_(sslrootcert=str(authority.roots))
            done = run_json(
                "backup", str(tmp_path / "f"), MIGRATION_DATABASE_URL=address.secret_url
            )
    (finding,) = done["findings"]
    assert finding["code"] == "no-pg-dump"
    assert f"is built without TLS, which {HOST} wants" in finding["message"]
    assert "is older than the server, 18" in finding["message"]
    assert PASSWORD not in str(done)
    assert list(tmp_path.iterdir()) == []


def test_a_local_address_that_asks_for_tls_gets_programs_with_tls(
    debian: tuple[Path, int], old_server: Address
) -> None:
    address = old_server.with_(host="127.0.0.1", sslmode="verify-full")
    assert address.is_local
    with connect(address, purpose="test") as connection:
        assert client_for(connection, address).folder == debian[0]
