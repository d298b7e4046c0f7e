"""How squawk judges the hand-written SQL: `python -m scripts.review.squawk` lints all of it.

squawk judges a file by whether a transaction is around it, so it runs once for either kind. A
single statement is excused in its file, by `-- squawk-ignore RULE` with the reason beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.errors import ToolError, refuse
from scripts.runner.files import Migration, read_migrations
from scripts.settings import ROOT, project

SQUAWK = Path(sys.executable).with_name("squawk")
OLDEST_SERVER = "16.0"

TIMEOUT = 120
"""Seconds for one run; five megabytes of SQL take two."""

# Rules that are off, each with its reason.
EVERYWHERE = {
    "require-lock-timeout": "the runner bounds every wait for a lock, and tries again",
    "require-statement-timeout": "how long a statement may take is for who runs it to say",
}
ROLLBACK = {
    "ban-drop-column": "a rollback takes away what its migration made",
    "ban-drop-function": "a rollback takes away what its migration made",
    "ban-drop-table": "a rollback takes away what its migration made",
}
ROLLBACK_IN_TRANSACTION = {
    "require-concurrent-index-deletion": "CONCURRENTLY is refused there, and the lock is short",
}


@dataclass(frozen=True)
class Note:
    """What squawk has to say of one place.

    Parameters
    ----------
    line : the last one that it is about, 1-based
    rule : squawk's name for it
    level : `warning` or `error`
    message : what may go wrong, and what to do instead
    """

    line: int
    rule: str
    level: str
    message: str


def notes(migrations: Sequence[Migration]) -> dict[str, list[Note]]:
    """Return what squawk says of some migrations of one folder, by id, in the order of lines.

    Raises
    ------
    ToolError : squawk is missing, or fails (code `squawk`)
    """
    found: defaultdict[str, list[Note]] = defaultdict(list)
    for transactional in (True, False):
        paths = [each.forward.path for each in migrations if each.transactional == transactional]
        if not paths:
            continue
        names = [path.name for path in paths]
        done = _run(paths[0].parent, names, transactional, False, "--reporter=json", capture=True)
        try:
            told = json.loads(done.stdout)
        except ValueError:
            raise refuse("squawk", f"squawk failed: {done.stderr.strip()[:500]}") from None
        for each in sorted(told, key=lambda each: (each["line_end"], each["line"])):
            message = " ".join(filter(None, (each["message"], each["help"])))
            note = Note(each["line_end"] + 1, each["rule_name"], each["level"].lower(), message)
            found[each["file"].removesuffix(".sql")].append(note)
    return found


def main() -> int:
    """Lint migrations, their rollbacks and the roles; the status is 1 where something is found."""
    try:
        return max(_run(ROOT, names, *kind).returncode for kind, names in _everything().items())
    except ToolError as error:
        sys.exit("\n".join(f"error: {finding}" for finding in error.findings))


def _everything() -> dict[tuple[bool, bool], list[str]]:
    """Return all files, by whether they run in a transaction and whether they are rollbacks."""
    found = defaultdict(list, {(True, False): [project().relative(project().roles)]})
    for migration in read_migrations(project().migrations):
        for script in (migration.forward, migration.rollback):
            if script:
                kind = migration.transactional, script is migration.rollback
                found[kind].append(project().relative(script.path))
    return found


def _run(
    folder: Path,
    names: Sequence[str],
    transactional: bool,
    rollback: bool,
    *options: str,
    capture: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run squawk over files of one kind; names are relative, for squawk takes them for patterns."""
    off = EVERYWHERE | (ROLLBACK if rollback else {})
    if transactional and rollback:
        off |= ROLLBACK_IN_TRANSACTION
    transaction = "--assume-in-transaction" if transactional else "--no-assume-in-transaction"
    options = (f"--pg-version={OLDEST_SERVER}", transaction, *options)
    options += tuple(f"--exclude={rule}" for rule in off)
    try:
        return subprocess.run(
            [SQUAWK, *options, *names],
            cwd=folder,
            capture_output=capture,
            encoding="utf-8",
            timeout=TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        raise refuse("squawk", "squawk is not installed", fix="make setup") from None
    except subprocess.TimeoutExpired:
        raise refuse("squawk", f"squawk took longer than {TIMEOUT} s") from None


if __name__ == "__main__":
    sys.exit(main())
