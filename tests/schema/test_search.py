"""Search finds what an unstripped vector finds, in the same order, whatever is typed."""

from __future__ import annotations

import random

import pytest

from scripts.settings import ROOT
from scripts.workload.seed import read_parts
from tests.schema.acting import Connection, act_as, column, value

pytestmark = pytest.mark.row("R19")

SEARCH = read_parts(ROOT / "sql" / "bench.sql")["search"]

# The same question to the whole text of every task.
VECTORS = """
create temporary table vectors as
select
    id,
    setweight(to_tsvector('english', title), 'A')
    || setweight(to_tsvector('english', coalesce(description, '')), 'B') as vector
from tasks
where user_id = 'alice';
grant select on vectors to todo_app
"""
REFERENCE = """
select id from vectors
where vector @@ search_query(%(typed)s)
order by ts_rank(vector, search_query(%(typed)s)) desc, id desc
limit %(limit)s
"""

# Words that share their first letters, stop words, and what the parser takes apart or keeps whole.
TEXT = """
    report reports reported reporter repo rep republic repeat the of a weekly week weak plan plane
    planning planet e-mail mail o'brien it's foo.com/a|b?x=1&y=2 50% under_score back\\slash 3.1
    \u00fcber \u00e9t\u00e9 \U0001f600 \u65e5\u672c\u8a9e a.b.c john@example.com /usr/bin or not and
    x y z xy xyz "quoted" <b>bold</b> &amp; (paren) : * ! % _ ~ don\u2019t
"""
WORDS = TEXT.split()


@pytest.mark.parametrize(
    ("typed", "query"),
    [
        ("weekly report", "'week' & 'report':*"),
        ("weekly rep", "'week' & 'rep':*"),
        ("weekly report ", "'week' & 'report'"),
        ('"weekly report"', "'week' <-> 'report'"),
        ('"weekly report', "'week' <-> 'report':*"),
        ("report -garden", "'report' & !'garden'"),
        ("report -garden rep", "'report' & !'garden' & 'rep':*"),
        ("report or invoice", "'report' | 'invoic':*"),
        ("call the", "'call'"),
        ("the", ""),
        ("", ""),
        ("& | ! ( ) : * ' \\", ""),
        ("report\n" + "-" * 40 + "\nplan ", "'report' & 'plan'"),
        ("- " * 40, ""),
        ("plan " * 20_000, "'plan'" + " & 'plan'" * 199),
    ],
)
def test_what_people_type(empty: Connection, typed: str, query: str) -> None:
    assert value(empty, "select search_query(%s)::text", [typed]) == query


def test_search_equals_the_unstripped_reference(owner: Connection) -> None:
    draw = random.Random(1)

    def some(count: int) -> str:
        return " ".join(draw.choices(WORDS, k=count))

    owner.cursor().executemany(
        "insert into tasks (user_id, title, description) values ('alice', %s, %s)",
        [(some(draw.randint(1, 4)), draw.choice([None, some(12)])) for _ in range(300)],
    )
    owner.execute(VECTORS)
    act_as(owner, "todo_app", "alice")
    found = 0
    for _ in range(500):
        terms = []
        for _ in range(draw.randint(1, 3)):
            term = some(1)[: draw.choice([2, 4, 99])]
            terms.append(draw.choice([term, term, f'"{some(2)}"', f"-{term}", f"{term} OR"]))
        values = {"user": "alice", "typed": " ".join(terms), "limit": 400}
        expected = column(owner, REFERENCE, values)
        ids = [row[1] for row in owner.execute(SEARCH.encode(), values)]
        assert ids == expected, values["typed"]
        found += bool(expected)
    assert found > 200, "most searches found nothing: the test proves little"


def test_candidates_are_few(owner: Connection) -> None:
    """The words let no more through than what they share four letters with."""
    owner.execute(
        "insert into tasks (user_id, title) select 'alice', word "
        "from unnest('{report,repair,reptile,garden,rep,/a_b/c,/axb/c}'::text[]) as word"
    )
    candidates = (
        "select count(*) from task_search "
        "where user_id = 'alice' and words like any (search_patterns(search_query(%s)))"
    )
    for typed, count in {
        "report ": 1,
        "rep": 4,
        "-garden": 9,
        "garden or milk ": 2,
        "/a_b/c ": 1,
    }.items():
        assert value(owner, candidates, [typed]) == count, typed


def test_a_text_of_too_many_words_to_index_is_found(empty: Connection) -> None:
    """The longest user id, and words of letters that take four bytes each."""
    user = chr(0x20000) * 255
    words = [chr(0x20000 + number) * 4 for number in range(240)]
    empty.execute(
        "insert into \"user\" (id, name, email) values (%s, 'x', 'x@example.com')", [user]
    )
    empty.execute(
        "insert into tasks (user_id, title, description) values (%s, 'plan', %s), (%s, %s, 'x')",
        [user, " ".join(words[:200]), user, " ".join(words[:40])],
    )
    act_as(empty, "todo_app", user)
    for typed, titles in {words[150]: ["plan"], words[3]: ["plan", " ".join(words[:40])]}.items():
        rows = empty.execute(SEARCH.encode(), {"user": user, "typed": typed, "limit": 9})
        titled = [column.name for column in rows.description or ()].index("title")
        assert sorted(row[titled] for row in rows) == sorted(titles)
