"""What Better Auth sends is in `sql/better_auth.sql`, where its plans are proven."""

from __future__ import annotations

import re

import psycopg
import pytest

from scripts.address import Address
from scripts.plans.corpus import read_corpus
from scripts.server import LocalServer
from tests.support.better_auth import BetterAuth, better_auth

pytestmark = pytest.mark.row("R1", "R30")

PHRASE, OTHER = "correct horse", "battery staple"  # passwords


def every_flow(auth: BetterAuth, address: Address) -> None:
    first = auth.sign_up("ada@example.com", "Ada", PHRASE)
    session = auth.sign_in("ada@example.com", PHRASE)
    auth.user_id(session)
    for _ in range(2):  # the first makes the key
        auth.jwt(session)
    assert auth.get("/list-sessions", session).is_success
    assert auth.post("/request-password-reset", {"email": "ada@example.com"}).is_success
    with psycopg.connect(address.url) as connection:
        row = connection.execute("select identifier from verification").fetchone()
        assert row
    body = {"newPassword": OTHER, "token": row[0].removeprefix("reset-password:")}
    assert auth.post("/reset-password", body).is_success
    session = auth.sign_in("ada@example.com", OTHER)
    change = {"currentPassword": OTHER, "newPassword": PHRASE}
    for path, sent in [
        ("/update-user", {"name": "Ada Lovelace"}),
        ("/change-password", change),
        ("/revoke-other-sessions", {}),
        ("/revoke-session", {"token": first}),
        ("/revoke-sessions", {}),
    ]:
        assert auth.post(path, sent, session).is_success, path
    assert auth.post("/sign-out", {}, auth.sign_in("ada@example.com", PHRASE)).is_success
    session = auth.sign_in("ada@example.com", PHRASE)
    assert auth.post("/delete-user", {"password": PHRASE}, session).is_success


def test_each_flow_sends_what_is_written_there_and_nothing_else(
    server: LocalServer, migrated: Address
) -> None:
    server.allow_logins()
    log = server.home / "data" / "server.log"
    with psycopg.connect(**server.superuser.parameters, autocommit=True) as connection:
        where = f"in database {migrated.database}"
        connection.execute(f"alter role todo_auth {where} set log_statement = 'all'".encode())
        with log.open("rb") as file:
            file.seek(0, 2)
            with better_auth(migrated) as auth:
                every_flow(auth, migrated)
            written = file.read().decode()
    sent = set(re.findall(r"LOG:  execute [^:]*: (.+)", written))
    known = {each.numbered[0] for each in read_corpus() if each.role == "todo_auth"}
    assert sent == known
