"""Run squawk over the hand-written SQL: migrations, their rollbacks and the roles.

squawk judges a file by whether a transaction is around it, so it runs once for either kind. A
single statement is excused in its file, by `-- squawk-ignore RULE` with the reason beside it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SQUAWK = Path(sys.executable).with_name("squawk")
OLDEST_SERVER = "16.0"
NOT_TRANSACTIONAL = re.compile(r"^--\s*transactional\s*:\s*false\s*$", re.MULTILINE)

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


def lint(files: list[Path], *, transactional: bool, off: dict[str, str]) -> bool:
    """Return whether squawk has nothing to say about the files; what it says is printed."""
    if not files:
        return True
    command: list[str | Path] = [SQUAWK, f"--pg-version={OLDEST_SERVER}"]
    command += ["--assume-in-transaction"] if transactional else ["--no-assume-in-transaction"]
    command += [f"--exclude={rule}" for rule in {**EVERYWHERE, **off}]
    return subprocess.run([*command, *files], cwd=ROOT, check=False).returncode == 0


def main(folder: Path = ROOT / "migrations") -> int:
    """Lint everything; the exit status is 1 where squawk found something."""
    rollbacks = set(folder.glob("*.rollback.sql"))
    forward = sorted(set(folder.glob("*.sql")) - rollbacks)
    # The forward file says for both whether they run in a transaction.
    bare = [path for path in forward if NOT_TRANSACTIONAL.search(path.read_text(encoding="utf-8"))]
    bare_rollbacks = rollbacks & {path.with_suffix(".rollback.sql") for path in bare}
    inside = [ROOT / "sql" / "roles.sql", *(path for path in forward if path not in bare)]
    inside_rollbacks = sorted(rollbacks - bare_rollbacks)
    runs = [
        lint(inside, transactional=True, off={}),
        lint(bare, transactional=False, off={}),
        lint(inside_rollbacks, transactional=True, off={**ROLLBACK, **ROLLBACK_IN_TRANSACTION}),
        lint(sorted(bare_rollbacks), transactional=False, off=ROLLBACK),
    ]
    return 0 if all(runs) else 1


if __name__ == "__main__":
    sys.exit(main())
