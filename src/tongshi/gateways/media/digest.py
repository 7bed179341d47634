"""A stale build of the engine is refused: its digest must be that of the sources beside it.

The rule is the one of ``native/build.rs``: SHA-256 over Cargo.toml and ``src/**/*.rs``, sorted by path
relative to ``native``; of each the path, a zero byte, the decimal length, a zero byte and the content. An
installed wheel has no sources beside it, and then there is nothing to compare.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tongshi.errors import Unavailable


def source_digest(native: Path) -> str | None:
    """The digest of the sources in ``native``, None when they are not there."""
    manifest = native / "Cargo.toml"
    if not manifest.is_file():
        return None
    paths = [manifest, *(native / "src").rglob("*.rs")]
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(native).as_posix(), path) for path in paths):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def check_build(built_digest: str, native: Path | None = None) -> None:
    """Refuse an engine that was built from other sources than those beside it.

    Raises:
        Unavailable: says what to run.
    """
    folder = native or Path(__file__).parents[4] / "native"
    expected = source_digest(folder)
    if expected is not None and expected != built_digest:
        raise Unavailable("媒体引擎与源码不一致，请先运行 make setup 重新构建", code=50302)
