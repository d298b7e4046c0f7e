"""Better Auth, unchanged, is a client of this schema: the release that tests/node pins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import psycopg
import pytest

from scripts.address import Address
from scripts.server import LocalServer
from tests.support.better_auth import BetterAuth, better_auth, migration_plan

pytestmark = pytest.mark.row("R1")

Rows = Callable[..., list[tuple[Any, ...]]]

PHRASE = "correct horse"  # a password
OTHER_PHRASE = "battery staple"

# Whatever belongs to a user, by the column that says whose it is.
OWNER = {'"user"': "id", "session": '"userId"', "account": '"userId"'}
OWNER |= dict.fromkeys(["tasks", "task_search", "conversations", "messages"], "user_id")
NOTHING, EVERYTHING = (dict.fromkeys(OWNER, count) for count in (0, 1))

SESSIONS = 'select token from session where "userId" = %s order by "createdAt"'
PASSWORD = 'select password from account where "userId" = %s'
RESET = "select split_part(identifier, ':', 2) from verification where value = %s"


@pytest.fixture(scope="module")
def auth(server: LocalServer, module_database: Address) -> Iterator[BetterAuth]:
    """Better Auth on the module's database; each test has its own e-mail addresses."""
    server.allow_logins()
    with better_auth(module_database) as running:
        yield running


@pytest.fixture
def rows(module_database: Address) -> Iterator[Rows]:
    """What a statement returns to the same database's owner, who sees every row."""
    with psycopg.connect(module_database.url, autocommit=True) as connection:

        def rows(query: str, *parameters: Any) -> list[tuple[Any, ...]]:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

        yield rows


def count(rows: Rows, user: str) -> dict[str, int]:
    """Return how many rows of each table are a user's."""
    return {
        table: rows(f"select count(*) from {table} where {column} = %s", user)[0][0]
        for table, column in OWNER.items()
    }


def status(auth: BetterAuth, way: str, email: str, password: str, **given: str) -> int:
    """Try to sign in or up by e-mail; return how that was answered."""
    body = {"email": email, "password": password, **given}
    return auth.post(f"/sign-{way}/email", body).status_code


def test_it_has_nothing_to_change_in_the_schema(
    server: LocalServer, module_database: Address
) -> None:
    server.allow_logins()
    plan = migration_plan(module_database)
    assert plan == {"create": [], "add": [], "indexes": [], "problems": []}


def test_it_tells_what_it_misses_in_a_schema(server: LocalServer, migrated: Address) -> None:
    server.allow_logins()
    with psycopg.connect(migrated.url) as connection:
        connection.execute(
            """
            drop table verification;
            alter table session drop column "userAgent";
            alter table session add column device text not null;
            alter table account alter column "providerId" drop not null;
            alter table jwks alter column "expiresAt" type text;
            """
        )
    plan = migration_plan(migrated)
    created = ["identifier", "value", "expiresAt", "createdAt", "updatedAt"]
    assert plan["create"] == [["verification", created]]
    assert plan["add"] == [["session", ["userAgent"]]]
    for column, said in ("device", "insert"), ("providerId", "nullable"), ("expiresAt", "type"):
        assert any(column in problem and said in problem for problem in plan["problems"])


def test_sign_up_makes_user_account_and_session(auth: BetterAuth, rows: Rows) -> None:
    token = auth.sign_up("Ada@Example.COM", "Ada Lovelace", PHRASE)
    ((user, *stored, hashed),) = rows(
        """
        select u.id, name, "emailVerified", "providerId", "accountId" = u.id, token,
            s."expiresAt" > now(), password
        from "user" u join account a on a."userId" = u.id join session s on s."userId" = u.id
        where email = 'ada@example.com'
        """
    )
    assert stored == ["Ada Lovelace", False, "credential", True, token, True]
    assert len(user) == 32
    assert auth.user_id(token) == user
    assert hashed
    assert PHRASE not in hashed


@pytest.mark.parametrize(
    ("email", "name"),
    [("taken@example.com", "Another"), ("TAKEN@example.com", "Another"), ("new@a.org", "x" * 256)],
)
def test_a_refused_sign_up_leaves_nothing(
    auth: BetterAuth, rows: Rows, email: str, name: str
) -> None:
    status(auth, "up", "taken@example.com", PHRASE, name="First")  # of the first of these tests
    query = 'select * from "user" u left join account a on a."userId" = u.id order by u.id, a.id'
    before = rows(query)
    assert any("taken@example.com" in row for row in before)
    assert status(auth, "up", email, OTHER_PHRASE, name=name) == 422
    assert rows(query) == before


def test_of_four_sign_ups_at_once_one_succeeds(auth: BetterAuth, rows: Rows) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(status, auth, "up", "race@example.com", PHRASE, name=f"{number}")
            for number in range(4)
        ]
    assert sorted(each.result() for each in asked) == [200, 422, 422, 422]
    ((user,),) = rows("""select id from "user" where email = 'race@example.com'""")
    assert count(rows, user) == {**NOTHING, '"user"': 1, "session": 1, "account": 1}


def test_sign_in_and_out(auth: BetterAuth, rows: Rows) -> None:
    first = auth.sign_up("grace@example.com", "Grace", PHRASE)
    user = auth.user_id(first)
    assert status(auth, "in", "grace@example.com", OTHER_PHRASE) == 401
    assert rows(SESSIONS, user) == [(first,)]

    second = auth.sign_in("GRACE@example.com", PHRASE)
    assert rows(SESSIONS, user) == [(first,), (second,)]
    listed = auth.get("/list-sessions", second).json()
    assert {session["token"] for session in listed} == {first, second}

    assert auth.post("/sign-out", token=first).json() == {"success": True}
    assert rows(SESSIONS, user) == [(second,)]
    assert auth.get("/get-session", first).json() is None
    assert auth.get("/list-sessions", first).status_code == 401
    assert auth.user_id(second) == user


def test_a_user_may_change_and_a_session_is_renewed(auth: BetterAuth, rows: Rows) -> None:
    token = auth.sign_up("john@example.com", "John", PHRASE)
    user = auth.user_id(token)
    assert auth.post("/update-user", {"name": "John von Neumann"}, token).status_code == 200
    query = 'select name, "updatedAt" > "createdAt" from "user" where id = %s'
    assert rows(query, user) == [("John von Neumann", True)]

    rows("""update session set "expiresAt" = now() + interval '1 day' where token = %s""", token)
    assert auth.user_id(token) == user
    query = """select "expiresAt" > now() + interval '6 days' from session where token = %s"""
    assert rows(query, token) == [(True,)]


def test_a_token_is_what_a_backend_can_check(auth: BetterAuth, rows: Rows) -> None:
    session = auth.sign_up("alan@example.com", "Alan", PHRASE)
    token = auth.jwt(session)
    (key,) = auth.get("/jwks").raise_for_status().json()["keys"]
    assert (key["kty"], key["crv"], key["alg"]) == ("OKP", "Ed25519", "EdDSA")
    assert "d" not in key  # the private part
    assert rows("select id from jwks") == [(key["kid"],)]
    assert jwt.get_unverified_header(token)["kid"] == key["kid"]
    wanted = {"issuer": auth.base_url, "audience": auth.base_url}
    claims = jwt.decode(token, jwt.PyJWK(key), algorithms=["EdDSA"], **wanted)
    assert claims["sub"] == auth.user_id(session)
    assert claims["exp"] - claims["iat"] == 15 * 60
    assert auth.get("/token").status_code == 401


def test_a_new_password_replaces_the_old_one_and_a_reset_link_works_once(
    auth: BetterAuth, rows: Rows
) -> None:
    email = "barbara@example.com"
    token = auth.sign_up(email, "Barbara", PHRASE)
    user = auth.user_id(token)
    before = rows(PASSWORD, user)
    body = {"currentPassword": PHRASE, "newPassword": OTHER_PHRASE}
    assert auth.post("/change-password", body, token).status_code == 200
    assert len({*before, *rows(PASSWORD, user)}) == 2
    assert status(auth, "in", email, PHRASE) == 401
    auth.sign_in(email, OTHER_PHRASE)

    assert auth.post("/request-password-reset", {"email": email}).status_code == 200
    ((link,),) = rows(RESET, user)
    body = {"token": link, "newPassword": PHRASE}
    assert auth.post("/reset-password", body).status_code == 200
    assert rows(RESET, user) == []
    assert auth.post("/reset-password", body).status_code == 400
    assert status(auth, "in", email, OTHER_PHRASE) == 401
    auth.sign_in(email, PHRASE)


def test_who_is_deleted_leaves_nothing_and_others_keep_all(auth: BetterAuth, rows: Rows) -> None:
    leaving = auth.sign_up("kurt@example.com", "Kurt", PHRASE)
    staying = auth.sign_up("emmy@example.com", "Emmy", PHRASE)
    gone, kept = auth.user_id(leaving), auth.user_id(staying)
    for user in gone, kept:
        rows("insert into tasks (user_id, title) values (%s, 'Prove it')", user)
        ((said_in,),) = rows("insert into conversations (user_id) values (%s) returning id", user)
        said = "insert into messages (user_id, conversation_id, role, content)"
        rows(f"{said} values (%s, %s, 'user', 'Is it complete?')", user, said_in)
        assert count(rows, user) == EVERYTHING
    answer = auth.post("/delete-user", {"password": PHRASE}, leaving)
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert count(rows, gone) == NOTHING
    assert count(rows, kept) == EVERYTHING
    assert auth.get("/get-session", leaving).json() is None
    assert auth.user_id(staying) == kept
