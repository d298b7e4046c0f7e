"""How every command speaks: data on stdout, progress on stderr, one JSON form."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, TextIO

import typer

from scripts.errors import Finding, ToolError
from scripts.unforeseen import findings_of

VERSION = 1
"""Of the JSON form; raised when a field changes its meaning or goes away."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def finite(value: float) -> float:
    """Refuse what is no number, as an option's callback: it is below no bound and above none."""
    if math.isnan(value):
        raise typer.BadParameter("is no number")
    return value


class Output:
    """One command's output; `finish` is called once, at its end.

    Parameters
    ----------
    command : the command's name, as typed
    json : print JSON on stdout instead of text
    stream : JSON comes as one event per line, not as one document
    """

    def __init__(self, command: str, *, json: bool, stream: bool = False) -> None:
        self.command = command
        self.json = json
        self.stream = stream
        self._done: dict[str, list[str]] = {}

    def say(self, text: str) -> None:
        """Print one line of text for people; nothing under `--json`."""
        if not self.json:
            _print(text, sys.stdout)

    def progress(self, text: str) -> None:
        """Print one line on stderr of what is going on; nothing under `--json`."""
        if not self.json:
            _print(text, sys.stderr)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table for people; nothing under `--json`. Numbers are set to the right."""
        if self.json:
            return
        texts = [columns, *([_cell(value) for value in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        numeric = [
            bool(rows) and all(isinstance(v, int | float) for v in column)
            for column in (zip(*rows, strict=True) if rows else [()] * len(columns))
        ]
        for text in texts:
            cells = [
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(text, widths, numeric, strict=True)
            ]
            self.say("  ".join(cells).rstrip())

    def event(self, event: str, **fields: Any) -> None:
        """Print one event of a streaming command; nothing without `--json`."""
        if event in ("applied", "reverted"):
            self._done.setdefault(event, []).append(fields["id"])
        if self.json and self.stream:
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            _write({"v": VERSION, "event": event, "at": at, **fields})

    def finish(
        self, findings: Sequence[Finding] = (), *, status: int | None = None, **data: Any
    ) -> None:
        """Print the findings (and, under `--json`, the document) and end with the exit status.

        Parameters
        ----------
        findings : what is wrong; any makes the status 1 unless `status` says otherwise
        status : the exit status
        data : further fields of the JSON document

        Raises
        ------
        typer.Exit : when the status is not 0
        """
        status = (1 if findings else 0) if status is None else status
        told = [finding.as_dict() for finding in findings]
        fields = {"ok": not findings, "findings": told, **self._done, **data}
        if self.json and self.stream:
            self.event("error" if findings else "done", **fields)
        elif self.json:
            _write({"v": VERSION, "command": self.command, **fields})
        else:
            report(findings)
        if status:
            raise typer.Exit(status)


def report(findings: Sequence[Finding]) -> None:
    """Print findings for people on stderr: what, where, and what to do."""
    for finding in findings:
        _print(f"error: {finding}", sys.stderr)


@contextmanager
def command(name: str, *, json: bool = False, stream: bool = False) -> Iterator[Output]:
    """Give a command its output, and turn every error into findings and the exit status."""
    out = Output(name, json=json, stream=stream)
    try:
        yield out
    except (typer.Exit, typer.Abort):
        raise
    except ToolError as error:
        out.finish(error.findings, status=error.status)
    except KeyboardInterrupt:
        finding = Finding("interrupted", "interrupted: what was running has left nothing behind")
        out.finish([finding], status=130)
    except Exception as error:
        out.finish(findings_of(error))


def _write(value: dict[str, Any]) -> None:
    _print(json.dumps(value, default=datetime.isoformat), sys.stdout)


def _print(text: str, stream: TextIO) -> None:
    """Print a line; where whoever read it has gone, what is going on goes on without."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    # Names come from elsewhere: they must neither move the cursor nor make a line of their own.
    return "".join(each if each.isprintable() else "�" for each in text)
