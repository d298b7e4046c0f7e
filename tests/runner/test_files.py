"""Migration files are found, read and refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.errors import ToolError
from scripts.runner import create, seal
from scripts.runner.files import read_migrations
from scripts.runner.statements import check_statements, concurrent_index, split

Write = Callable[..., Path]


def codes(error: pytest.ExceptionInfo[ToolError]) -> list[str]:
    return [finding.code for finding in error.value.findings]


@pytest.mark.row("R9")
def test_files_are_read_in_the_order_of_their_names(write: Write) -> None:
    folder = write({"0002.b-b": "select 2", "0001.a-a": "select 1", "0010.c-c": "select 10"})
    assert [m.id for m in read_migrations(folder)] == ["0001.a-a", "0002.b-b", "0010.c-c"]


REFUSED = {
    "no number": ({"create-a.sql": "select 1"}, "bad-name", "NNNN"),
    "capital letters": ({"0001.Create-a.sql": "select 1"}, "bad-name", "NNNN"),
    "python": ({"0001.create-a.py": ""}, "bad-name", "NNNN"),
    "a number twice": (
        {"0001.a-a.sql": "select 1", "0001.b-b.sql": "select 1"},
        "bad-name",
        "has the number of 0001.a-a",
    ),
    "a rollback alone": ({"0001.a-a.rollback.sql": "select 1"}, "bad-name", "forward file"),
    "not UTF-8": ({"0001.a-a.sql": b"select '\xff'"}, "bad-file", "UTF-8"),
    "a byte-order mark": ({"0001.a-a.sql": "\ufeffselect 1"}, "bad-file", "byte-order mark"),
    "a NUL byte": ({"0001.a-a.sql": "select 1;\0 select 2"}, "bad-file", "NUL"),
    "a directive in capitals": (
        {"0001.a-a.sql": "-- Transactional: false\nselect 1"},
        "bad-directive",
        "lowercase",
    ),
    "neither true nor false": (
        {"0001.a-a.sql": "-- transactional: no\nselect 1"},
        "bad-directive",
        "transactional: no",
    ),
    "a dependency that is not earlier": (
        {"0001.a-a.sql": "-- depends: 0002.b-b\nselect 1", "0002.b-b.sql": "select 1"},
        "bad-directive",
        "0002.b-b",
    ),
}


@pytest.mark.row("R9")
@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_no_migration_is_refused_by_name(tmp_path: Path, case: str) -> None:
    files, code, words = REFUSED[case]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ToolError, match=words) as error:
        read_migrations(tmp_path)
    assert codes(error) == [code]
    assert error.value.findings[0].file


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no such folder"):
        read_migrations(tmp_path / "nowhere")


def test_a_syntax_error_names_line_and_column_and_shows_the_line(write: Write) -> None:
    text = "-- é\n\nselect 1;\n\n/* ; */\n\ncreate tabel a ();\n"
    (migration,) = read_migrations(write({"0001.a-a": text}))
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
    (migration,) = read_migrations(write({"0001.a-a": text}))
    texts = [statement.text for statement in split(migration.forward)]
    assert [t.split()[0:2] for t in texts] == [
        ["create", "function"],
        ["select", "';'"],
        ["create", "function"],
    ]
    assert all(text[s.offset :].startswith(s.text) for s in split(migration.forward))


UNSAFE = {
    "commit": ("select 1;\ncommit", "transaction control"),
    "savepoint": ("savepoint a", "transaction control"),
    "nothing": ("-- only a comment\n", "holds no statement"),
    "copy from the client": ("copy a from stdin", "no standard input"),
    "row security": ("set row_security = on", "row_security is the runner's"),
    "alone without need": (
        "-- transactional: false\nupdate a set b = b + 1",
        "runs in a transaction as well",
    ),
    "two statements": (
        "-- transactional: false\nvacuum;\nvacuum",
        "second statement",
    ),
    "not repeatable": (
        "-- transactional: false\ncreate index concurrently i on a (b)",
        "if not exists",
    ),
    "a drop that is not repeatable": (
        "-- transactional: false\ndrop index concurrently i",
        "if exists",
    ),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_a_file_that_would_break_the_runners_promises_is_refused(write: Write, case: str) -> None:
    text, words = UNSAFE[case]
    (migration,) = read_migrations(write({"0001.a-a": text}))
    with pytest.raises(ToolError, match=words):
        check_statements(migration, migration.forward)


def test_the_index_of_a_concurrent_statement_is_quoted(write: Write) -> None:
    text = '-- transactional: false\ncreate index concurrently if not exists "I""x" on s.a (b)'
    (migration,) = read_migrations(write({"0001.a-a": text}))
    index = concurrent_index(split(migration.forward)[0])
    assert index
    assert index.name == '"s"."I""x"'


@pytest.mark.row("R9")
def test_checksums_tell_edited_and_unsealed_files(write: Write) -> None:
    folder = write({"0001.a-a": "select 1", "0002.b-b": "select 2"})
    assert seal.check(read_migrations(folder), folder)[0].object == "0001.a-a"
    assert seal.seal(read_migrations(folder), folder, []) == ["0001.a-a", "0002.b-b"]
    assert seal.check(read_migrations(folder), folder) == []
    write({"0002.b-b": "select 3"})
    (finding,) = seal.check(read_migrations(folder), folder)
    assert (finding.code, finding.object) == ("seal", "0002.b-b")
    assert finding.fix == "python -m scripts seal"


@pytest.mark.parametrize("applied", [None, ["0001.a-a"]])
def test_seal_never_rewrites_what_may_be_applied(write: Write, applied: list[str] | None) -> None:
    folder = write({"0001.a-a": "select 1"})
    seal.seal(read_migrations(folder), folder, [])
    before = (folder / seal.FILE).read_text()
    write({"0001.a-a": "select 2", "0002.b-b": "select 2"})
    with pytest.raises(ToolError) as error:
        seal.seal(read_migrations(folder), folder, applied)
    assert codes(error) == ["edited"]
    assert (folder / seal.FILE).read_text() == before


def test_two_branches_that_both_add_a_migration_conflict(write: Write) -> None:
    folder = write({"0001.a-a": "select 1", "0002.b-b": "select 2", "0003.c-c": "select 3"})
    all_three = seal.entries(read_migrations(folder))
    for path in folder.glob("0002*"):
        path.unlink()
    without_second = seal.entries(read_migrations(folder))
    assert all_three["0001.a-a"] == without_second["0001.a-a"]
    assert all_three["0003.c-c"] != without_second["0003.c-c"]


def test_seal_mends_what_git_leaves_of_a_conflict(write: Write) -> None:
    folder = write({"0001.a-a": "select 1"})
    seal.seal(read_migrations(folder), folder, [])
    good = (folder / seal.FILE).read_text()
    (folder / seal.FILE).write_text(f"<<<<<<< ours\n{good}=======\n>>>>>>> theirs\n")
    assert seal.check(read_migrations(folder), folder)
    seal.seal(read_migrations(folder), folder, ["0001.a-a"])
    assert (folder / seal.FILE).read_text() == good


@pytest.mark.row("R10")
def test_new_makes_the_next_pair(write: Write) -> None:
    folder = write({"0007.a-a": "select 1"})
    forward, rollback = create.new(folder, "add-tasks-note")
    assert (forward.name, rollback.name) == (
        "0008.add-tasks-note.sql",
        "0008.add-tasks-note.rollback.sql",
    )
    with pytest.raises(ToolError, match="verb-object"):
        create.new(folder, "Add tasks; note")
    # What was only begun is refused, not applied as an empty file.
    with pytest.raises(ToolError, match="holds no statement"):
        check_statements(read_migrations(folder)[-1], read_migrations(folder)[-1].forward)
