"""Migration files are found, read and refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.errors import Finding, ToolError
from scripts.runner import seal
from scripts.runner.files import Migration, read_migrations
from scripts.runner.statements import check_statements, split

Write = Callable[..., Path]
ONE = b"select 1"
ALONE = b"-- transactional: false\n"


def migration_of(write: Write, text: str) -> Migration:
    (migration,) = read_migrations(write({"0001.a-a": text}))
    return migration


def sealed(folder: Path, applied: list[str] | None) -> list[str]:
    return seal.seal(read_migrations(folder), folder, applied)


def unsealed(folder: Path) -> list[Finding]:
    return seal.check(read_migrations(folder), folder)


@pytest.mark.row("R9")
@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        ({"create-a.sql": ONE}, "bad-name", "NNNN"),
        ({"0001.Create-a.sql": ONE}, "bad-name", "NNNN"),
        ({"0001.create-a.py": b""}, "bad-name", "NNNN"),
        ({"0001.a-a.sql": ONE, "0001.b-b.sql": ONE}, "bad-name", "has the number of 0001.a-a"),
        ({"0001.a-a.rollback.sql": ONE}, "bad-name", "forward file"),
        ({"0001.a-a.sql": b"select '\xff'"}, "bad-file", "UTF-8"),
        ({"0001.a-a.sql": "\ufeffselect 1".encode()}, "bad-file", "byte-order mark"),
        ({"0001.a-a.sql": b"select 1;\0 select 2"}, "bad-file", "NUL"),
        ({"0001.a-a.sql": b"-- Transactional: false\nselect 1"}, "bad-directive", "lowercase"),
        ({"0001.a-a.sql": b"-- transactional: no\nselect 1"}, "bad-directive", "transactional: no"),
        (
            {"0001.a-a.sql": b"-- depends: 0002.b-b\nselect 1", "0002.b-b.sql": ONE},
            "bad-directive",
            "0002.b-b",
        ),
        ({"0001.a-a.sql": b"select 1;\ncommit"}, "bad-file", "transaction control"),
        ({"0001.a-a.sql": b"savepoint a"}, "bad-file", "transaction control"),
        ({"0001.a-a.sql": b"-- only a comment\n"}, "bad-file", "holds no statement"),
        ({"0001.a-a.sql": b"copy a from stdin"}, "bad-file", "no standard input"),
        ({"0001.a-a.sql": b"set row_security = on"}, "bad-file", "row_security is the runner's"),
        (
            {"0001.a-a.sql": ALONE + b"update a set b = 1"},
            "bad-file",
            "runs in a transaction as well",
        ),
        ({"0001.a-a.sql": ALONE + b"vacuum;\nvacuum"}, "bad-file", "second statement"),
        (
            {"0001.a-a.sql": ALONE + b"create index concurrently i on a (b)"},
            "bad-file",
            "if not exists",
        ),
        ({"0001.a-a.sql": ALONE + b"drop index concurrently i"}, "bad-file", "if exists"),
    ],
)
def test_a_file_that_breaks_the_runners_promises_is_refused_by_name(
    tmp_path: Path, files: dict[str, bytes], code: str, words: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ToolError, match=words) as error:
        for migration in read_migrations(tmp_path):
            check_statements(migration, migration.forward)
    (finding,) = error.value.findings
    assert finding.code == code
    assert finding.file


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no such folder"):
        read_migrations(tmp_path / "nowhere")


def test_a_syntax_error_names_line_and_column_and_shows_the_line(write: Write) -> None:
    migration = migration_of(write, "-- é\n\nselect 1;\n\n/* ; */\n\ncreate tabel a ();\n")
    with pytest.raises(ToolError) as error:
        check_statements(migration, migration.forward)
    (finding,) = error.value.findings
    assert (finding.code, finding.line) == ("sql", 7)
    assert finding.message.splitlines() == [
        'column 8: syntax error at or near "tabel"',
        "    create tabel a ();",
        "           ^",
    ]


def test_statements_survive_what_breaks_naive_splitters(write: Write) -> None:
    body = "begin select ';'; /* ' */ return 1; end"
    text = (
        "-- ; a comment\n"
        f"create function f() returns int language plpgsql as $a$ {body} $a$;\n"
        "/* nested /* ; */ ; */ select ';' as \"begin\";\n"
        "create function g() returns int language sql begin atomic select 1; select 2; end;\n"
    )
    statements = split(migration_of(write, text).forward)
    words = [statement.text.split()[:2] for statement in statements]
    assert words == [["create", "function"], ["select", "';'"], ["create", "function"]]
    assert all(text[statement.offset :].startswith(statement.text) for statement in statements)


@pytest.mark.row("R9")
def test_files_are_read_in_order_and_their_checksums_tell_edits(write: Write) -> None:
    folder = write({"0002.b-b": "select 2", "0001.a-a": "select 1", "0010.c-c": "select 10"})
    assert unsealed(folder)[0].object == "0001.a-a"
    assert sealed(folder, []) == ["0001.a-a", "0002.b-b", "0010.c-c"]
    assert unsealed(folder) == []
    write({"0002.b-b": "select 3"})
    (finding,) = unsealed(folder)
    assert (finding.code, finding.object) == ("seal", "0002.b-b")
    assert finding.fix == "python -m scripts seal"


@pytest.mark.parametrize("applied", [None, ["0001.a-a"]])
def test_seal_never_rewrites_what_may_be_applied(write: Write, applied: list[str] | None) -> None:
    folder = write({"0001.a-a": "select 1"})
    sealed(folder, [])
    before = (folder / seal.FILE).read_text()
    write({"0001.a-a": "select 2", "0002.b-b": "select 2"})
    with pytest.raises(ToolError) as error:
        sealed(folder, applied)
    assert [finding.code for finding in error.value.findings] == ["edited"]
    assert (folder / seal.FILE).read_text() == before


def test_two_branches_that_both_add_a_migration_conflict(write: Write) -> None:
    folder = write({"0001.a-a": "select 1", "0002.b-b": "select 2", "0003.c-c": "select 3"})
    first, second, third = read_migrations(folder)
    with_second, without = seal.entries([first, second, third]), seal.entries([first, third])
    assert with_second["0001.a-a"] == without["0001.a-a"]
    assert with_second["0003.c-c"] != without["0003.c-c"]


def test_seal_mends_what_git_leaves_of_a_conflict(write: Write) -> None:
    folder = write({"0001.a-a": "select 1"})
    sealed(folder, [])
    good = (folder / seal.FILE).read_text()
    (folder / seal.FILE).write_text(f"<<<<<<< ours\n{good}=======\n>>>>>>> theirs\n")
    assert unsealed(folder)
    sealed(folder, ["0001.a-a"])
    assert (folder / seal.FILE).read_text() == good
