"""Write the clause index of docs/conformance.md from the ``Implements:`` lines of all modules.

Without arguments the file is rewritten; with ``--check`` it is compared and the exit code says whether it is in step.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "conformance.md"
LINE = re.compile(r"^(?://! |/// )?\s*Implements: (.+?)\s*$", re.M)
BLOCK = re.compile(r"(<!-- clause index -->\n).*?(<!-- end -->)", re.S)


def clauses() -> dict[str, list[str]]:
    """Each clause with the modules that say they implement it."""
    found: dict[str, list[str]] = {}
    files = [*(ROOT / "src" / "tongshi").rglob("*.py"), *(ROOT / "native" / "src").rglob("*.rs")]
    for path in sorted(files):
        for clause in LINE.findall(path.read_text(encoding="utf-8")):
            found.setdefault(clause, []).append(str(path.relative_to(ROOT)))
    return found


def render() -> str:
    """The index as a Markdown table, ordered by clause."""
    rows = [f"| {clause} | {', '.join(f'`{m}`' for m in modules)} |" for clause, modules in sorted(clauses().items())]
    return "\n| clause | modules |\n|---|---|\n" + "\n".join(rows) + "\n\n"


def main() -> int:
    text = DOCUMENT.read_text(encoding="utf-8")
    wanted = BLOCK.sub(lambda match: match.group(1) + render() + match.group(2), text)
    if "--check" in sys.argv:
        return 0 if wanted == text else 1
    DOCUMENT.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
