"""docs/openapi.json is what this version serves; the console's types are generated from it."""

from __future__ import annotations

import json
from pathlib import Path

from tongshi.app.serve import openapi_document

FILE = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_committed_document_is_the_served_one() -> None:
    assert FILE.read_text(encoding="utf-8") == openapi_document(), "run make docs"


def test_each_of_the_73_rows_is_in_the_document_once() -> None:
    document = json.loads(FILE.read_text(encoding="utf-8"))
    rows = [
        operation["x-db31"]
        for methods in document["paths"].values()
        for operation in methods.values()
        if "x-db31" in operation
    ]
    assert len(rows) == len(set(rows)) == 73
