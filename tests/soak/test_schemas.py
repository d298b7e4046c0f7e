"""The schemas against the database with as many inputs as one has patience for."""

from __future__ import annotations

import os

import pytest

from scripts.address import Address
from tests.package.test_schemas import CASES, Case, agree, application

pytestmark = [pytest.mark.soak, pytest.mark.row("R14")]

EXAMPLES = int(os.environ.get("SOAK", "20")) * 100


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_schema_accepts_what_the_database_accepts(module_database: Address, case: Case) -> None:
    with application(module_database) as app:
        assert "stored" in agree(app, case, max_examples=EXAMPLES)
