"""Write docs/clauses.md: how many rows of docs/conformance.md stand how, and which module implements which clause.

Without arguments the file is written; with ``--check`` it is compared and the exit code says whether it is in step.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "docs" / "conformance.md"
INDEX = ROOT / "docs" / "clauses.md"
LINE = re.compile(r"^(?://! |/// )?\s*Implements: (.+?)\s*$", re.M)
STATE = re.compile(r"^\| (?:Z001|GB|E\.)[^|]*? \| .+? \| (done|partly|not) \|", re.M)
HEAD = """# Clauses

Written by `scripts/clause_index.py`: the rows of [conformance.md](conformance.md) counted, and each clause with the modules whose `Implements:` lines name it.
"""


def clauses() -> dict[str, list[str]]:
    """Each clause with the modules that say they implement it."""
    found: dict[str, list[str]] = {}
    files = [*(ROOT / "src" / "tongshi").rglob("*.py"), *(ROOT / "native" / "src").rglob("*.rs")]
    for path in sorted(files):
        for clause in LINE.findall(path.read_text(encoding="utf-8")):
            found.setdefault(clause, []).append(str(path.relative_to(ROOT)))
    return found


def counts() -> str:
    """How many rows stand how, in one line."""
    states = STATE.findall(ROWS.read_text(encoding="utf-8"))
    told = ", ".join(f"{state} {states.count(state)}" for state in ("done", "partly", "not"))
    return f"Rows: {len(states)}; {told}.\n"


def render() -> str:
    """The whole file; the index ordered by clause."""
    rows = [f"| {clause} | {', '.join(f'`{m}`' for m in modules)} |" for clause, modules in sorted(clauses().items())]
    return "\n".join([HEAD, counts(), "| clause | modules |", "|---|---|", *rows, ""])


def main() -> int:
    if "--check" in sys.argv:
        return 0 if INDEX.read_text(encoding="utf-8") == render() else 1
    INDEX.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
