"""docs/conformance.md tells the truth: every row is there, names what exists, in step with the modules."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tongshi.web.annex_e import ROWS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| ((?:Z001|GB|E\.)[^|]*?) \| (.+?) \| (done|partly|not) \| (.+?) \| (.+?) \| (.*?) \|$", re.M
)
FOUND = ROW.findall(TEXT)
LAST = "T17 R23 K9 X12 C20 Q15 D14 F10 A5 N14 I15 P16 B6 S6 M9 Z6 E2 V3 H3"
CHECKLIST = {word[0]: int(word[1:]) for word in LAST.split()}


def test_every_row_of_annex_e_is_listed_once() -> None:
    listed = [row[0] for row in FOUND if row[0].startswith("E.")]
    assert sorted(listed) == sorted(row.row for row in ROWS)
    assert len(listed) == 73


def test_a_row_of_annex_e_is_not_built_here_and_in_the_contract_alike() -> None:
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    unbuilt = {one["x-db31"] for one in operations if one.get("x-state") == "not-implemented"}
    assert unbuilt, "the word for it has changed"
    assert {row[0] for row in FOUND if row[0].startswith("E.") and row[2] == "not"} == unbuilt


def test_every_row_of_the_checklist_is_listed_once() -> None:
    listed = [row[0] for row in FOUND if row[0].startswith("GB ")]
    wanted = [
        f"GB {letter}-{number:02}" for letter, last in CHECKLIST.items() for number in range(1, last + 1)
    ]
    assert sorted(listed) == sorted(wanted)
    assert len(listed) == 205


def test_the_chapters_and_annexes_are_listed() -> None:
    listed = {row[0] for row in FOUND}
    for clause in ("5.1", "6.1 g)", "6.2.2 a) 1", "6.4.4", "7.3", "7.7", "A.1-9", "B.2-8", "C.1-8", "D.3-2"):
        assert f"Z001 {clause}" in listed


def test_what_is_done_names_modules_and_tests_that_exist() -> None:
    wrong = []
    for clause, _, state, modules, tests, why in FOUND:
        if state == "not":
            if not why.strip("– "):
                wrong.append(f"{clause}: not, without a reason")
            continue
        if state == "partly" and not why.strip("– "):
            wrong.append(f"{clause}: partly, without saying what is missing")
        named = re.findall(r"`([^`]+)`", modules), re.findall(r"`([^`]+)`", tests)
        if not all(named):
            wrong.append(f"{clause}: names no module or no test")
        wrong += [f"{clause}: {name} does not exist" for part in named for name in part if not exists(name)]
    assert not wrong, "\n".join(wrong)


def exists(name: str) -> bool:
    """A path below src/tongshi, native/src, console/src or tests."""
    return any(
        (ROOT / base / name).exists() for base in ("src/tongshi", "native/src", "console/src", "tests", ".")
    )


def test_the_counts_and_the_clause_index_are_in_step() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "clause_index.py"), "--check"], check=False, timeout=60
    )
    assert done.returncode == 0, "run scripts/clause_index.py"
