"""The review page: what pending migrations would do, in a form that no text can break."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from scripts.address import Address
from scripts.database import connect
from scripts.errors import Finding, ToolError
from scripts.plans.corpus import read_corpus
from scripts.plans.reading import Reach
from scripts.plans.statistics import read_statistics, restore_tables
from scripts.plans.survey import Outcome
from scripts.review import squawk
from scripts.review.markdown import code, fenced, words
from scripts.review.page import LIMIT, document, markdown, write_page
from scripts.review.plans import Plans
from scripts.review.review import Review, review
from scripts.review.schemas import Schema, schema_diff
from scripts.review.squawk import Note, notes
from scripts.runner.files import Migration, Script, read_migrations
from scripts.runner.run import migrate
from scripts.runner.state import read_state
from scripts.settings import project
from scripts.verify.checks import Check
from tests.support.commands import run_here

pytestmark = pytest.mark.row("R9", "R27")

ACTIVITY = "conversations_user_id_updated_at_id_idx"
ABOUT: dict[str, Any] = {"title": "Review of pending migrations", "facts": {"database": "x"}}

Reviewer = Callable[..., Review]


@pytest.fixture
def with_files(migrated: Address, tmp_path: Path) -> Reviewer:
    """Return what reviews more files on a migrated database; `prepare` is SQL that runs first."""
    folder = tmp_path / "migrations"
    shutil.copytree(project().migrations, folder)

    def run(files: dict[str, str], prepare: str = "") -> Review:
        for name, text in files.items():
            (folder / f"{name}.sql").write_text(text, "utf-8")
        with connect(migrated, purpose="test") as connection:
            state = read_state(connection, folder)
            connection.execute(prepare.encode())
            return review(connection, state, state.pending)

    return run


@pytest.fixture
def before_last(scratch: Address) -> Address:
    """A database at which only the newest migration, of two indexes, is pending."""
    with connect(scratch, purpose="test") as connection:
        migrate(connection, project().migrations, roles=project().roles, target="0016")
    return scratch


def changed(found: Review) -> set[str]:
    assert found.plans
    return {before.statement for before, _ in found.plans.changes}


def meant_by(*indexes: str) -> set[str]:
    """Return the statements that say themselves that they are read by one of these indexes."""
    return {each.name for each in read_corpus() if {*each.indexes} & {*indexes}}


def test_an_index_changes_the_plans_that_are_meant_to_use_it(
    before_last: Address, tmp_path: Path
) -> None:
    page = tmp_path / "review.md"
    done = run_here("plan", "--report", str(page), MIGRATION_DATABASE_URL=before_last.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("-- migrations/0017")
    told = json.loads((tmp_path / "review.json").read_text("utf-8"))
    expected = meant_by(ACTIVITY, "messages_user_id_conversation_id_id_idx")
    assert len(expected) > 5
    assert {each["statement"] for each in told["plans"]["changes"]} == expected
    for each in told["plans"]["changes"]:
        assert bool(each["before"]["fault"]) == (each["tenant"] != "typical")
        assert each["after"]["fault"] is None
    assert told["plans"]["rows"] == 1_000_000
    assert f"+CREATE INDEX {ACTIVITY} ON" in told["schema_diff"]
    assert "-CREATE INDEX" not in told["schema_diff"]
    with connect(before_last, purpose="test", read_only=True) as connection:
        state = read_state(connection, project().migrations)
        found = review(connection, state, state.pending)
    assert markdown(found, title=told["title"], facts=told["facts"]) == page.read_text("utf-8")
    assert json.loads(json.dumps(document(found, title=told["title"], facts=told["facts"]))) == told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["review.json", "review.md"]


def test_an_index_that_goes_is_a_finding_for_each_statement_that_needs_it(
    with_files: Reviewer,
) -> None:
    found = with_files({"0018.drop-index": f"-- It is not used.\ndrop index {ACTIVITY};\n"})
    assert {(each.code, each.object) for each in found.findings} == {
        ("plan", name) for name in meant_by(ACTIVITY)
    }
    assert meant_by(ACTIVITY) <= changed(found)
    diff = found.schema_diff or ""
    assert f"\n-CREATE INDEX {ACTIVITY} ON" in diff
    assert re.findall("^@@.*", diff, re.MULTILINE) == ["@@ -- public.conversations"]
    (rule,) = (note.rule for _, notes in found.migrations for note in notes)
    assert rule == "require-concurrent-index-deletion"
    text = markdown(found, **ABOUT)
    assert f"\ndrop index {ACTIVITY};\n-- squawk require-concurrent-index-deletion: " in text
    assert text.index("1 migration pending, 2 findings") < text.index("| database |")


def test_what_changes_no_schema_changes_no_plan(with_files: Reviewer) -> None:
    """Two databases without rows plan alike, all 1,473 times."""
    found = with_files({"0018.trim-titles": "update tasks set title = trim(title);\n"})
    assert (found.schema_diff, found.findings) == ("", [])
    assert changed(found) == set()
    text = markdown(found, **ABOUT)
    assert "## Schema\n\nIt stays as it is." in text
    assert "Every statement is planned as before." in text


def test_the_database_s_own_statistics_count_from_a_million_rows_on(
    with_files: Reviewer, migrated: Address
) -> None:
    """In this database conversations are so few that they may be read in any way."""
    known = read_statistics(project().statistics).scaled(3_000_000)
    known.tables["conversations"] |= {"rows": 50, "pages": 1}
    del known.tables["jwks"]
    columns = known.tables["tasks"]["columns"]
    known.tables["tasks"]["columns"] = {"title": columns["title"]}
    with connect(migrated, purpose="test") as connection:
        restore_tables(connection, known)
    found = with_files({"0018.drop-index": f"drop index {ACTIVITY};\n"})
    for finding in found.findings:
        assert f"does not read by {ACTIVITY}" in finding.message  # and not: reads range
        assert (finding.fix or "").endswith("--rows 3000001 --tenant heavy --statistics FILE")
    assert found.plans
    assert found.plans.rows == known.tables["tasks"]["rows"]
    assert found.plans.statistics == (
        "the database's own, at 3,000,001 rows of tasks; of jwks those of sql/statistics.json"
    )


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        ("", "there are no statistics of tasks that todo_owner may see"),
        ("insert into \"user\" (id, name, email) values ('u', 'u', 'u@u.u'); analyze", "has 0"),
        ("set role todo_app", "there are no statistics of tasks that todo_owner may see"),
    ],
)
def test_the_project_s_statistics_stand_for_those_of_a_small_database(
    with_files: Reviewer, prepare: str, why: str
) -> None:
    found = with_files({"0018.drop-index": f"drop index {ACTIVITY};\n"}, prepare)
    assert len(found.findings) == len(meant_by(ACTIVITY))
    assert all("reads range, not limit" in finding.message for finding in found.findings)
    assert found.plans
    assert found.plans.rows == 1_000_000
    assert found.plans.statistics.startswith("sql/statistics.json, scaled to 1,000,000 rows of")
    assert why in found.plans.statistics


def test_the_diff_of_a_schema_tells_what_each_hunk_is_of(with_files: Reviewer) -> None:
    found = with_files(
        {
            "0018.change-much": """
                alter table messages add column seen boolean;
                create table notes (id bigint primary key);
                create or replace function set_updated_at() returns trigger language plpgsql
                    as 'begin return new; end';
                drop table jwks;
            """
        }
    )
    lines = (found.schema_diff or "").split("\n")
    assert lines[:2] == ["--- applied", "+++ with the pending migrations"]
    assert list(dict.fromkeys(line for line in lines if line.startswith("@@"))) == [
        "@@ CREATE FUNCTION public.set_updated_at() RETURNS trigger",
        "@@ -- public.notes",
        "@@ -- public.messages",
        "@@ -- public.jwks",
    ]
    assert "+    seen boolean," in lines or "+    seen boolean" in lines
    assert "+CREATE TABLE public.notes (" in lines
    assert "-CREATE TABLE public.jwks (" in lines
    assert [finding.code for finding in found.findings] == ["bad-statistics"]


def test_the_diff_of_a_big_schema_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    text = project().snapshot.read_text("utf-8")
    parts = [text.replace("public.", f"public.s{number}") for number in range(100)]
    before, after = (Schema(project().migrations, "") for _ in range(2))
    texts = {before: "".join(parts), after: "".join(parts).replace("text", "varchar")}
    monkeypatch.setattr(Schema, "text", property(lambda schema: texts[schema]))
    began = time.monotonic()
    lines = schema_diff(before, after).split("\n")
    assert time.monotonic() - began < 10  # line by line of the whole it takes minutes
    assert len(lines) > 10_000


def test_a_migration_that_fails_is_told_beside_its_text(with_files: Reviewer) -> None:
    found = with_files({"0018.rename-it": "-- Why\nalter table taks add column x int;\n"})
    (finding,) = found.findings
    assert (finding.code, finding.line) == ("sql", 2)
    assert found.schema_diff is found.plans is None
    text = markdown(found, **ABOUT)
    assert "1 migration pending, 1 finding" in text
    assert "alter table taks add column x int;" in text
    assert text.count("Not compared: see above.") == 2


def test_files_in_doubt_are_not_reviewed(
    migrated: Address, tmp_path: Path, write: Callable[[dict[str, str]], Path]
) -> None:
    folder = write({"0018.add-x": "create table x (id int);\n"})
    shutil.copytree(project().migrations, folder, dirs_exist_ok=True)
    with connect(migrated, purpose="test") as connection:
        migrate(connection, folder, check_seal=False)
        with pytest.raises(ToolError, match="its file is gone"):
            review(connection, read_state(connection, project().migrations), [])
    page = tmp_path / "review.md"
    done = run_here("plan", "--report", str(page), MIGRATION_DATABASE_URL=migrated.url)
    assert done.returncode == 1
    assert page.read_text("utf-8").startswith(f"# {ABOUT['title']}\n\n**Not reviewed, 1 finding.**")
    (finding,) = json.loads(page.with_suffix(".json").read_text("utf-8"))["findings"]
    assert (finding["code"], finding["object"]) == ("missing", "0018.add-x")


def test_where_nothing_is_pending_the_page_says_so(migrated: Address, tmp_path: Path) -> None:
    page = tmp_path / "review"
    done = run_here("plan", "--report", str(page), MIGRATION_DATABASE_URL=migrated.url)
    assert done.returncode == 0
    text = page.read_text("utf-8")
    assert "**Nothing pending, nothing wrong.**" in text
    assert "## " not in text
    assert json.loads((tmp_path / "review.json").read_text("utf-8"))["schema_diff"] == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("review.json", "is the page's JSON's own name"),
        ("missing/review.md", "is in no folder that is there"),
        ("folder", "cannot be written: a folder has its name"),
        ("taken.md", "cannot be written: a folder has its name"),
        ("link.md", "is no ordinary file"),
        ("linked.md", "is no ordinary file"),
        ("/dev/null", "is no ordinary file"),
    ],
)
def test_a_file_that_cannot_be_the_page_is_refused_before_any_work(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "folder").mkdir()
    for link in ("link.md", "linked.json"):
        (tmp_path / link).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "taken.json").mkdir()
    unreachable = "postgresql://x@127.0.0.1:1/x"
    done = run_here("plan", "--report", str(tmp_path / name), MIGRATION_DATABASE_URL=unreachable)
    assert (done.returncode, done.stdout) == (2, "")
    first, fix = done.stderr.splitlines()
    assert message in first
    assert fix.startswith("  fix: ")


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    page = tmp_path / "review.md"
    write_page(page, None, **ABOUT)
    old = page.read_text("utf-8")
    with pytest.raises(UnicodeEncodeError):
        write_page(page, None, title="\ud800", facts={})
    assert page.read_text("utf-8") == old
    assert json.loads(page.with_suffix(".json").read_text("utf-8"))["title"] == ABOUT["title"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "-- Why\ncreate index a\n    on tasks (id);\nalter table tasks rename title to t;\n",
            [(3, "require-concurrent-index-creation"), (4, "renaming-column")],
        ),
        ("-- transactional: false\ncreate index concurrently if not exists a on t (id);\n", []),
        ("drop table a;\n", [(1, "ban-drop-table")]),
        (
            "-- transactional: false\ndrop table a;\n",
            [(2, "ban-drop-table"), (2, "prefer-robust-stmts")],
        ),
        ("-- squawk-ignore renaming-column\nalter table a rename b to c;\n", []),
        ("create tabel a ();\n", [(1, "syntax-error")]),
    ],
)
def test_squawk_s_notes_name_the_last_line_that_they_are_about(
    write: Callable[[dict[str, str]], Path], text: str, expected: list[tuple[int, str]]
) -> None:
    files = {"0001.other": "alter table a rename b to c;\n", "0002.this": text}
    found = notes(read_migrations(write(files)))
    assert [note.rule for note in found["0001.other"]] == ["renaming-column"]
    told = [(note.line, note.rule) for note in found["0002.this"]]
    assert list(dict.fromkeys(told)) == expected


def test_lint_looks_at_migrations_rollbacks_and_roles(
    write: Callable[[dict[str, Any]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = "-- transactional: false\ncreate index concurrently if not exists a on t (id);\n"
    folder = write({"0001.index-t": (good, "drop table if exists t;\n")})
    roles = folder / "roles.sql.txt"
    roles.write_text("select 1;\n")
    moved = replace(project(), migrations=folder, roles=roles)
    monkeypatch.setattr(squawk, "project", lambda: moved)
    assert squawk.main() == 0  # a rollback may drop what its migration made
    for path in (roles, folder / "0001.index-t.sql", folder / "0001.index-t.rollback.sql"):
        text = path.read_text()
        path.write_text(f"{text}alter table t rename a to b;\n")
        assert squawk.main() == 1
        path.write_text(text)


HOSTILE = """evil @evil #1 www.evil.org https://evil.org evil|evil `evil` ``` ~~~ <script>
```
~~~
# evil
</code></pre></details></summary></td></table><!-- evil --> &lt;evil&gt; [evil](https://evil.org)
| evil | evil |
\u202eevil\x1b[31m\revil\\|evil\\`evil\\
***evil***
"""


class Outside(HTMLParser):
    """The tags of a page in order, what stands outside of code, and the codes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.codes: list[str] = []
        parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
        self.feed(parser.render(text))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)
        if tag == "code":
            self.codes.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "code" in self.open:
            self.codes[-1] += data
        else:
            self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def fabricated(text: str, *, count: int = 1) -> Review:
    """Return a review in which this text is wherever a text can be."""
    path = project().migrations / f"{' '.join(text[:300].split())}.sql"
    migration = Migration("0018.x", Script(path, text, "", {}), None)
    outcome = Outcome(text, 1, "any", Reach.LIMIT, (text, text), 1, None)
    changes = [
        (outcome, replace(outcome, fault=f"reads {text}")),
        (replace(outcome, fault=f"is refused: {text}"), outcome),
    ]
    note = Note(1, text[:300], "warning", text[:300])
    finding = Finding(text, text, file=text, line=1, fix=text)
    return Review(
        [(migration, [note])] * count, text, Plans(1, text, 1, changes * count), [finding] * count
    )


def page_of(text: str) -> Outside:
    about: dict[str, Any] = {"title": text, "facts": {text: text}, "checks": [Check(text, [])]}
    return Outside(markdown(fabricated(text), **about))


def test_no_text_breaks_out_of_its_place() -> None:
    page, harmless = page_of(HOSTILE), page_of("evi/\nl")
    assert "evil" not in page.text
    assert "@" not in page.text
    assert page.open == []
    assert page.tags == harmless.tags
    assert {"h1", "table", "details", "pre"} <= set(page.tags)
    assert not [code for code in page.codes if "\u202e" in code or "\x1b" in code or "\r" in code]
    (sql,) = (code for code in page.codes if code.startswith("evil @evil") and "-- squawk" in code)
    for line in HOSTILE.split("\n")[:6]:
        assert f"{line}\n" in sql
    assert "<U+202E>evil<U+001B>[31m<U+000D>evil" in sql


MARKUP = st.sampled_from("`|\\<>@#*_[]()~&; \n\t\r-")


@settings(max_examples=300, deadline=None)
@given(st.text(MARKUP | st.characters(codec="utf-8")))
@example("@all")
@example("_a_ #1")
@example("`")
@example(" a ")
@example("a\\|b")
def test_code_holds_any_text(text: str) -> None:
    shown = "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in " ".join(text.split()))
    for rendered in (code(text), words(text)):
        page = Outside(f"| x |\n| --- |\n| {rendered} |\n\nend\n")
        assert page.tags == ["table", "thead", "tr", "th", "tbody", "tr", "td"] + (
            ["code"] if page.codes else []
        ) + ["p"]
        if page.codes:
            assert page.codes == [shown]
            assert page.text.split() == ["x", "end"]
        else:
            assert " ".join(text.split()) in page.text
            assert not {*"@#`*_[]<>&|\\"} & {*page.text}
    block = Outside(f"{fenced(text, 'sql')(10_000)}end\n")
    assert block.tags == ["pre", "code", "p"]
    assert block.text.strip() == "end"


def test_a_page_never_takes_more_than_a_comment_holds() -> None:
    big = "insert into t values ('0123456789');\n" * 140_000
    assert len(big) > 5_000_000
    small = fabricated("select 1;\n")
    long = fabricated("select 2;\n" * 900)
    reviews = {
        "one big file": replace(small, migrations=fabricated(big).migrations),
        "a big file before small ones": replace(
            small, migrations=[*fabricated(big).migrations, *small.migrations * 3]
        ),
        "many files": replace(small, migrations=small.migrations * 2_000),
        "many long files": replace(small, migrations=long.migrations * 2_000),
        "one endless line": replace(small, migrations=fabricated("x" * 5_000_000).migrations),
        "backticks": replace(small, migrations=fabricated("`" * 5_000_000).migrations),
        "a big diff": replace(small, schema_diff=big),
        "many changes": replace(small, plans=fabricated("a", count=50_000).plans),
        "everything": fabricated(HOSTILE * 100, count=50),
    }
    for name, each in reviews.items():
        text = markdown(each, **ABOUT)
        assert LIMIT / 4 < len(text) <= LIMIT or name in ("many changes", "backticks"), name
        page = Outside(text)
        assert page.open == []
        if name != "many changes":
            assert "Left out here: " in text
            assert "the JSON has all." in text
    after_big = markdown(reviews["a big file before small ones"], **ABOUT)
    assert after_big.count("select 1;\n") >= 3
    whole = document(reviews["one big file"], **ABOUT)
    assert whole["migrations"][0]["sql"] == big
    assert len(document(reviews["many files"], **ABOUT)["migrations"]) == 2_000


def test_what_gets_worse_comes_first_and_what_changes_alike_is_one_line() -> None:
    def outcome(name: str, reads: Reach, fault: str | None = None) -> Outcome:
        return Outcome(name, 1, "any", reads, ("i",), 1, fault)

    changes = [
        (outcome(name, before, was), outcome(name, after, fault))
        for name, before, was, after, fault in [
            ("better", Reach.RANGE, None, Reach.KEY, None),
            ("also better", Reach.RANGE, None, Reach.KEY, None),
            ("worse", Reach.KEY, None, Reach.RANGE, None),
            ("new", Reach.NOTHING, "is refused: x", Reach.KEY, None),
            ("at fault", Reach.RANGE, None, Reach.KEY, "does not read by i"),
        ]
    ]
    text = markdown(replace(fabricated("x"), plans=Plans(1, "x", 5, changes)), **ABOUT)
    assert re.findall(r"^\| .* \| any \| (.*) \|$", text, re.MULTILINE) == [
        "`at fault`",
        "`new`",
        "`worse`",
        "`better`, `also better`",
    ]


def test_many_findings_are_told_as_far_as_there_is_room() -> None:
    findings = [Finding("plan", f"statement {number}: reads table") for number in range(10_000)]
    text = markdown(None, **ABOUT, findings=findings)
    assert len(text) <= LIMIT
    assert "**Not reviewed, 10,000 findings.**" in text
    assert "statement 7: " in Outside(text).codes[7]
    assert "Left out here: " in text
    assert len(document(None, **ABOUT, findings=findings)["findings"]) == 10_000
