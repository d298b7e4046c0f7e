"""What a test recorded as its score is printed at the end, passed or not."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    scores = [
        score
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        for name, score in getattr(report, "user_properties", [])
        if name == "score"
    ]
    if scores:
        terminalreporter.section("scores")
        for score in scores:
            terminalreporter.write_line(score)
