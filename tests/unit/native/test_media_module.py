"""The built module against its stub and its sources; no socket is opened here."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tongshi import _media

ROOT = Path(__file__).resolve().parents[3]
KEY = bytes.fromhex("00000001 6742c01eda0280f640 00000001 68ce3c80 00000001 658801")
INTER = b"\x00\x00\x00\x01\x41\x9a\x02"


def source_digest(native: Path) -> str:
    """What build.rs computes, once more."""
    paths = [native / "Cargo.toml", *(native / "src").rglob("*.rs")]
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(native).as_posix(), path) for path in paths):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def test_the_digest_of_the_build_can_be_recomputed_from_the_sources(tmp_path: Path) -> None:
    assert len(_media.SOURCE_DIGEST) == 64
    assert int(_media.SOURCE_DIGEST, 16) > 0
    (tmp_path / "src" / "inner").mkdir(parents=True)
    (tmp_path / "Cargo.toml").write_text("[package]")
    (tmp_path / "src" / "lib.rs").write_text("mod inner;")
    before = source_digest(tmp_path)
    (tmp_path / "src" / "inner" / "a.rs").write_text("")
    assert source_digest(tmp_path) != before


def test_the_build_is_that_of_these_sources() -> None:
    if source_digest(ROOT / "native") != _media.SOURCE_DIGEST:
        pytest.fail("the native module is stale: run `make setup` to build it from these sources")


def test_the_stub_says_what_the_build_has(tmp_path: Path) -> None:
    pytest.importorskip("mypy.stubtest", reason="mypy is not installed")
    for_type_checkers_only = (
        "Container",
        "Description",
        "Dialogue",
        "Event",
        "PortStats",
        "StreamStats",
        "Transport",
        "ViewerStats",
        "__all__",
    )
    allowed = tmp_path / "allowed.txt"
    allowed.write_text("\n".join(f"tongshi._media.{name}" for name in for_type_checkers_only))
    command = [
        sys.executable,
        "-m",
        "mypy.stubtest",
        "--concise",
        "--allowlist",
        str(allowed),
        "tongshi._media",
    ]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert found.returncode == 0, found.stdout + found.stderr


def test_frames_come_back_from_a_program_stream_as_they_went_in() -> None:
    sound = b"\xd5" * 160
    frames = [
        ("video", KEY, 90_000, True),
        ("video", INTER, 93_600, False),
        ("audio", sound, 93_600, False),
    ]
    found = _media.ps_demux(_media.ps_mux(frames, "h264", "g711a"))
    assert sorted(found) == sorted(
        [("h264", KEY, 90_000, True), ("h264", INTER, 93_600, False), ("g711a", sound, 93_600, False)]
    )


def test_any_bytes_are_demultiplexed_without_an_error() -> None:
    for seed in range(50):
        noise = hashlib.shake_128(bytes([seed])).digest(700)
        _media.ps_demux(noise)
        _media.ps_demux(b"\x00\x00\x01\xba" + noise + b"\x00\x00\x01\xe0" + noise)


def test_codecs_and_kinds_that_do_not_exist_are_named() -> None:
    with pytest.raises(ValueError, match="vp9"):
        _media.ps_mux([], "vp9")
    with pytest.raises(ValueError, match="subtitle"):
        _media.ps_mux([("subtitle", b"", 0, False)], "h264")
    with pytest.raises(ValueError, match="case"):
        _media.bench_media("nothing", {})
    with pytest.raises(ValueError, match="speed"):
        _media.bench_media("ingest", {"speed": 1.0})


@pytest.mark.parametrize(
    "bad", [{"threads": 0}, {"threads": 17}, {"tick_ms": 0}, {"tick_ms": 21}, {"reorder_window": 1025}]
)
def test_an_engine_refuses_sizes_out_of_bounds(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        _media.Engine(**bad)
