"""The arrows between the rooms of the house point one way, and no cycle hides (docs/architecture.md 2)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
VOCABULARY = {"errors", "ids", "clock", "config", "shape_words", "_media"}
KITS = {"protocols", "storage", "web", "observe"}
FEATURES = {"resources", "sharing", "audit", "exchange"}
TOP = {"testing", "bench", "demo"}
ALLOWED: dict[str, set[str]] = {
    **{kit: {"errors", "ids", "clock", "config", "shape_words"} for kit in KITS},
    "sharing": KITS | {"errors", "ids", "clock", "audit"},
    "audit": KITS | {"errors", "ids", "clock", "sharing"},
    "resources": KITS | {"errors", "ids", "clock", "shape_words", "sharing", "audit"},
    "exchange": KITS | {"errors", "ids", "clock", "sharing", "audit", "resources"},
    "gateways": KITS | FEATURES | VOCABULARY,
    "app": KITS | FEATURES | VOCABULARY | {"gateways"},
    "cli": KITS | FEATURES | VOCABULARY | TOP | {"gateways", "app"},
    **{room: KITS | FEATURES | VOCABULARY | TOP | {"gateways", "app"} for room in TOP},
    "errors": set(),
    "ids": {"errors"},
    "clock": set(),
    "shape_words": set(),
    "config": {"errors", "ids", "shape_words"},
}
# A protocol takes bytes and gives events: none of these belongs in one.
NO_IO = {"asyncio", "socket", "ssl", "sqlalchemy", "threading", "time", "random", "selectors"}


def modules() -> list[Path]:
    return sorted((SOURCE / "tongshi").rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE / "tongshi").parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Absolute names a module imports, those for type checking left out."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def rooms_used(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported(path) if name.startswith("tongshi.")} - {"__version__"}


def test_every_room_has_its_rule() -> None:
    rooms = {room(path) for path in modules()} - {"__init__", "__main__"}
    assert rooms <= set(ALLOWED), rooms - set(ALLOWED)


def test_arrows_between_rooms_point_one_way() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)} imports {sorted(extra)}"
        for path in modules()
        if room(path) in ALLOWED and (extra := rooms_used(path) - ALLOWED[room(path)] - {room(path)})
    ]
    assert not wrong, "\n".join(wrong)


def test_protocols_do_no_input_or_output() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)} imports {sorted(found)}"
        for path in modules()
        if room(path) == "protocols" and (found := {name.split(".")[0] for name in imported(path)} & NO_IO)
    ]
    assert not wrong, "\n".join(wrong)


def test_models_and_services_know_neither_routes_nor_foreign_tables() -> None:
    wrong = []
    for path in modules():
        if room(path) not in FEATURES or path.stem not in {"model", "service"}:
            continue
        own = "tongshi." + ".".join(path.relative_to(SOURCE / "tongshi").parts[:-1])
        for name in imported(path):
            if name.startswith("tongshi.") and name.endswith(".http"):
                wrong.append(f"{path.relative_to(SOURCE)} imports {name}")
            if name.endswith(".store") and name.startswith("tongshi.resources.") and not name.startswith(own):
                wrong.append(f"{path.relative_to(SOURCE)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_sql_is_written_in_stores_and_storage_only() -> None:
    wrong = [
        str(path.relative_to(SOURCE))
        for path in modules()
        if room(path) in FEATURES | {"gateways", "web", "app"}
        and not path.stem.endswith("store")
        and any(
            name in {"sqlalchemy.select", "sqlalchemy.text", "sqlalchemy.insert", "sqlalchemy.update"}
            for name in imported(path)
        )
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("batch", range(4))
def test_each_module_imports_alone_in_a_fresh_process(batch: int) -> None:
    """A cycle shows only when the module that closes it is imported first."""
    names = [
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for path in modules()
        if "migrations" not in path.parts and path.stem != "__main__"
    ][batch::4]
    code = (
        "import importlib,sys\n"
        f"for name in {names!r}:\n"
        "    for loaded in [m for m in sys.modules if m == 'tongshi' or m.startswith('tongshi.')]:\n"
        "        if loaded != 'tongshi._media': del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
