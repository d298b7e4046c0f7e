"""REQUIRE_ALL=1: a part of the suite that could not run is a failure, not a skip.

All but what needs the description of Neon's API, which is Neon's to publish and no program that one
could install: where it is not there, the tests that hold requests against it are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

NOT_OURS = "no description of Neon's API"
"""What `tests.support.prism` says where the file is missing."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if os.environ.get("REQUIRE_ALL") and report.skipped and not hasattr(report, "wasxfail"):
        reason: Any = report.longrepr
        if NOT_OURS in reason[2]:
            return report
        report.outcome = "failed"
        report.longrepr = f"REQUIRE_ALL is set, and this could not run: {reason[2]}"
    return report
