"""The hash of a table: other rows have another, and nothing else has."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.address import Address
from scripts.backup.contents import measure, one_moment
from scripts.database import connect
from tests.tools.test_backup import execute, quiet

pytestmark = pytest.mark.row("R28")


def measured(address: Address) -> list[dict[str, Any]]:
    with (
        connect(address, purpose="test", read_only=True) as connection,
        one_moment(connection) as tables,
    ):
        return measure(connection, tables, quiet)


DIFFERENT = {
    "another value": ("(1, 'a')", "(1, 'b')"),
    "a row more": ("(1, 'a')", "(1, 'a'), (2, 'b')"),
    "a row twice": ("(1, 'a')", "(1, 'a'), (1, 'a')"),
    "another row twice": ("(1, 'a'), (1, 'a'), (2, 'b')", "(1, 'a'), (2, 'b'), (2, 'b')"),
    "null and nothing": ("(1, null)", "(1, '')"),
    "null and its name": ("(1, null)", "(1, 'NULL')"),
    "values of two rows swapped": ("(1, 'a'), (2, 'b')", "(1, 'b'), (2, 'a')"),
    "a blank at the end": ("(1, 'a')", "(1, 'a ')"),
    "no row and an empty one": ("(1, 'a')", "(1, 'a'), (null, null)"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_other_rows_have_another_hash(scratch: Address, case: str) -> None:
    hashes = []
    for values in DIFFERENT[case]:
        execute(scratch, "drop table if exists t; create table t (t int, x text)")
        execute(scratch, f"insert into t values {values}")
        hashes.append(measured(scratch))
    assert hashes[0][0]["hash"] != hashes[1][0]["hash"]


def test_neither_order_nor_settings_change_the_hash(scratch: Address) -> None:
    execute(
        scratch,
        """
        create table t (n float8, at timestamptz, i interval, b bytea, m money);
        insert into t values
            (0.1::float8 + 0.2,
             '2024-02-03 04:05:06+00', '1 year 2 days -3 hours', '\\x00ff', 12.5),
            (1e-300, 'infinity', '-1 mons', '', -1),
            (null, null, null, null, null)
        """,
    )
    before = measured(scratch)
    execute(
        scratch,
        f"""
        create table u as select * from t order by n desc;
        truncate t;
        insert into t select * from u;
        drop table u;
        alter database {scratch.database} set datestyle = 'German';
        alter database {scratch.database} set intervalstyle = 'iso_8601';
        alter database {scratch.database} set timezone = 'Asia/Kathmandu';
        alter database {scratch.database} set extra_float_digits = -10;
        alter database {scratch.database} set bytea_output = 'escape';
        """,
    )
    assert measured(scratch) == before
