"""The message files of tests/data/sip: odd and good, bad, and split but unreadable."""

from __future__ import annotations

from pathlib import Path

import pytest

from tongshi.errors import RemoteViolation
from tongshi.protocols.sip.message import Request, Response, parse

DATA = Path(__file__).parents[3] / "data" / "sip"
GOOD = sorted(path.stem for path in (DATA / "good").glob("*.sip"))
BAD = sorted(path.stem for path in (DATA / "bad").glob("*.sip"))
BAD_HEADERS = sorted(path.stem for path in (DATA / "bad_headers").glob("*.sip"))

CAMERA = "34020000001320000001"
PLATFORM = "34020000002000000001"
XML_BYTES = 169


def read(folder: str, name: str) -> bytes:
    return (DATA / folder / f"{name}.sip").read_bytes()


def good(name: str) -> Request | Response:
    return parse(read("good", name))


@pytest.mark.parametrize("name", GOOD)
def test_every_good_file_names_the_same_peers(name: str) -> None:
    message = good(name)
    message.check()
    assert message.from_.uri.user == CAMERA
    assert message.to.uri.user == (CAMERA if name == "register" else PLATFORM)
    assert message.call_id == "7d1f3a90b2@198.51.100.32"
    assert message.cseq.number == (2 if name == "register" else 20)


@pytest.mark.parametrize("name", GOOD)
def test_every_good_file_survives_encoding(name: str) -> None:
    message = good(name)
    assert parse(message.encode()) == message


@pytest.mark.parametrize("name", BAD)
def test_every_bad_file_is_refused(name: str) -> None:
    with pytest.raises(RemoteViolation):
        parse(read("bad", name))


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_every_file_with_a_bad_mandatory_header_splits_but_fails_the_check(name: str) -> None:
    message = parse(read("bad_headers", name))
    with pytest.raises(RemoteViolation):
        message.check()


@pytest.mark.parametrize(
    "name",
    [
        "keepalive",
        "compact_forms",
        "folded_lines",
        "lf_only",
        "no_content_length",
        "content_length_too_large",
        "content_length_too_small",
        "content_length_is_text",
    ],
)
def test_the_body_of_a_datagram_is_what_the_datagram_holds(name: str) -> None:
    message = good(name)
    assert len(message.body) == XML_BYTES
    assert message.body.endswith(b"</Notify>\r\n")
    assert message.content_type == "application/manscdp+xml"


def test_folded_parameters_are_found() -> None:
    message = good("folded_lines")
    assert message.via.branch == "z9hG4bKf"
    assert message.via.param("rport") == ""
    assert message.from_.tag == "c1a001"


def test_bytes_of_gb18030_leave_as_they_came() -> None:
    raw = read("good", "gb18030_display_name")
    message = parse(raw)
    assert message.from_.display.encode("latin-1").decode("gb18030") == "东门球机𠮷"
    assert message.headers.get("User-Agent").encode("latin-1") == "海康·测试".encode("gb18030")
    assert message.encode() == raw


def test_quoted_separators_do_not_split() -> None:
    message = good("quotes_hide_separators")
    assert message.from_.display == 'a,b;c<d>"e'
    assert message.from_.uri.param("x") == "1"
    assert message.from_.tag == "c1a001"
    assert message.via.branch == "z9hG4bKq"


def test_without_angle_brackets_parameters_belong_to_the_header() -> None:
    message = good("odd_branch_and_no_tag")
    assert message.to.tag == "old"
    assert message.to.uri.params == ()
    assert message.from_.tag == ""


def test_a_domain_may_carry_suffix_and_port() -> None:
    message = good("spvmn_domain")
    assert (message.to.uri.host, message.to.uri.port) == ("3402000000.spvmn.cn", 5060)


def test_a_status_line_needs_no_reason() -> None:
    message = good("response_without_reason")
    assert isinstance(message, Response)
    assert (message.status, message.reason) == (200, "")
