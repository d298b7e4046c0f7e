"""What the tools report: findings, and the error that carries them to the command line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, where it is, and what to do about it.

    Parameters
    ----------
    code : stable kebab-case name, for scripts
    message : one line for people
    object : the database object or migration it is about
    file, line : the place in the project, 1-based
    fix : the next step, a command where there is one
    """

    code: str
    message: str
    object: str | None = None
    file: str | None = None
    line: int | None = None
    fix: str | None = None

    @property
    def text(self) -> str:
        """Where it is, and the message."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}" if place else self.message

    def __str__(self) -> str:
        return f"{self.text}\n  fix: {self.fix}" if self.fix else self.text

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as the JSON object that scripts/README.md documents."""
        return asdict(self)


class ToolError(Exception):
    """A refusal or a failure that a user can act on; never shown as a traceback.

    Parameters
    ----------
    findings : what is wrong, at least one
    status : the exit status, 1 for a refusal or failure, 2 for wrong use
    """

    def __init__(self, *findings: Finding, status: int = 1) -> None:
        super().__init__("; ".join(finding.message for finding in findings))
        self.findings = findings
        self.status = status


def refuse(code: str, message: str, *, fix: str | None = None, status: int = 1) -> ToolError:
    """Return the error with a single finding, the usual case."""
    return ToolError(Finding(code, message, fix=fix), status=status)
