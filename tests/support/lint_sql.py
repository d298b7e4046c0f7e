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


def main(folder: Path = ROOT / "migrations") -> int:
    """Lint everything; the exit status is 1 where squawk found something."""
    runs: dict[tuple[bool, bool], list[Path]] = {(True, False): [ROOT / "sql" / "roles.sql"]}
    for path in sorted(folder.glob("*.sql")):
        rollback = path.name.endswith(".rollback.sql")
        # The forward file says for both whether they run in a transaction.
        forward = path.with_name(path.name.replace(".rollback.sql", ".sql"))
        transactional = not NOT_TRANSACTIONAL.search(forward.read_text(encoding="utf-8"))
        runs.setdefault((transactional, rollback), []).append(path)
    status = 0
    for (transactional, rollback), files in runs.items():
        off = EVERYWHERE | (ROLLBACK if rollback else {})
        if transactional and rollback:
            off |= ROLLBACK_IN_TRANSACTION
        transaction = "--assume-in-transaction" if transactional else "--no-assume-in-transaction"
        options = [f"--pg-version={OLDEST_SERVER}", transaction, *(f"--exclude={o}" for o in off)]
        result = subprocess.run([SQUAWK, *options, *files], cwd=ROOT, check=False)
        status |= result.returncode != 0
    return status


if __name__ == "__main__":
    sys.exit(main())
