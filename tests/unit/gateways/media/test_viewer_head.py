"""The viewer listener's reading of a request head, and the digest that refuses a stale engine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.errors import InvalidRequest, Unavailable
from tongshi.gateways.media.digest import check_build, source_digest
from tongshi.gateways.media.viewer_server import Head, parse_head, parse_target


def test_a_head_gives_method_target_and_origin() -> None:
    head = parse_head(b"GET /live/a.flv?ticket=t HTTP/1.1\r\nHost: x\r\norigin: http://c\r\n")
    assert head == Head("GET", "/live/a.flv?ticket=t", "http://c")


def test_two_origins_are_none() -> None:
    assert parse_head(b"GET / HTTP/1.1\r\nOrigin: a\r\nOrigin: b").origin == ""


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_refused(data: bytes) -> None:
    try:
        assert isinstance(parse_head(data), Head)
    except InvalidRequest:
        pass


def test_a_target_gives_path_and_ticket() -> None:
    assert parse_target("/live/a.flv?x=1&ticket=t") == ("/live/a.flv", "t")
    assert parse_target("/live/a.flv") == ("/live/a.flv", "")


@pytest.mark.parametrize("target", ["//[/live/a.flv", "/live/a.flv?" + "&a=b" * 11])
def test_a_target_that_is_no_url_is_refused(target: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_target(target)


@given(st.text(max_size=300))
def test_any_target_is_read_or_refused(target: str) -> None:
    try:
        path, ticket = parse_target(target)
    except InvalidRequest:
        return
    assert isinstance(path, str)
    assert isinstance(ticket, str)


def test_the_digest_follows_the_rule_of_the_build(tmp_path: Path) -> None:
    (tmp_path / "src" / "deep").mkdir(parents=True)
    files = {
        "Cargo.toml": b"[package]",
        "src/b.rs": b"fn b() {}",
        "src/deep/a.rs": b"",
        "src/x.txt": b"not me",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    expected = hashlib.sha256()
    for name in ("Cargo.toml", "src/b.rs", "src/deep/a.rs"):
        expected.update(name.encode() + b"\0" + str(len(files[name])).encode() + b"\0" + files[name])
    assert source_digest(tmp_path) == expected.hexdigest()
    check_build(expected.hexdigest(), tmp_path)
    with pytest.raises(Unavailable):
        check_build("0" * 64, tmp_path)


def test_an_installed_engine_has_no_sources_to_compare(tmp_path: Path) -> None:
    assert source_digest(tmp_path) is None
    check_build("anything", tmp_path)
