"""Addresses, header table, bounds."""

from __future__ import annotations

import pytest

from tongshi.errors import LocalViolation, RemoteViolation
from tongshi.protocols.sip.address import Remote, split_list
from tongshi.protocols.sip.building import reply
from tongshi.protocols.sip.message import (
    Headers,
    NameAddr,
    Request,
    Response,
    Uri,
    Via,
    looks_like_sip,
    parse,
)


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("sip:34020000002000000001@3402000000", "34020000002000000001", "3402000000", None),
        ("sip:34020000002000000001@192.0.2.10:5060", "34020000002000000001", "192.0.2.10", 5060),
        ("SIPS:a@[2001:db8::1]:5061;transport=tcp", "a", "[2001:db8::1]", 5061),
        ("sip:192.0.2.10", "", "192.0.2.10", None),
        ("sip:user;par=u%40x@example.com?Subject=a", "user;par=u%40x", "example.com", None),
        ("tel:+8621", "", "+8621", None),
    ],
)
def test_uris_are_read(text: str, user: str, host: str, port: int | None) -> None:
    uri = Uri.parse(text)
    assert (uri.user, uri.host, uri.port) == (user, host, port)
    assert Uri.parse(str(uri)) == uri


@pytest.mark.parametrize(
    "text", ["", "sip:", "sip:@", "sip:a@", "sip:a@b:70000", "sip:a b@c", "sip:a@<b>", "nothing", "sip:a@b:x"]
)
def test_uris_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(RemoteViolation):
        Uri.parse(text)


def test_a_tag_is_replaced_and_removed() -> None:
    address = NameAddr.parse("<sip:a@b>;x=1;tag=old")
    assert str(address.with_tag("new")) == "<sip:a@b>;x=1;tag=new"
    assert str(address.with_tag("")) == "<sip:a@b>;x=1"


def test_via_learns_the_true_source() -> None:
    via = Via.parse("SIP/2.0/UDP 192.0.2.9:5060;rport;branch=z9hG4bKa")
    seen = via.received_from(Remote("198.51.100.7", 40000, "udp"))
    assert str(seen) == "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKa;received=198.51.100.7;rport=40000"
    plain = Via.parse("SIP/2.0/UDP 192.0.2.9").received_from(Remote("192.0.2.9", 5060, "udp"))
    assert str(plain) == "SIP/2.0/UDP 192.0.2.9"


def test_headers_compare_without_case_and_in_both_forms() -> None:
    headers = Headers([("v", "SIP/2.0/UDP a"), ("VIA", "SIP/2.0/UDP b"), ("X-New", "1")])
    assert headers.get_all("Via") == ["SIP/2.0/UDP a", "SIP/2.0/UDP b"]
    assert "x-new" in headers
    headers.set("Via", "SIP/2.0/UDP c")
    assert list(headers) == [("Via", "SIP/2.0/UDP c"), ("X-New", "1")]
    headers.remove("X-NEW")
    assert len(headers) == 1


def test_a_changed_header_is_parsed_anew() -> None:
    message = Request("OPTIONS", "sip:a@b", Headers([("From", "<sip:a@b>;tag=1")]))
    assert message.from_.tag == "1"
    message.headers.set("From", "<sip:a@b>;tag=2")
    assert message.from_.tag == "2"


@pytest.mark.parametrize(
    ("name", "value"), [("X", "a\r\nVia: b"), ("X", "a\nb"), ("X", "\0"), ("X Y", "a"), ("", "a")]
)
def test_a_header_cannot_open_a_second_one(name: str, value: str) -> None:
    with pytest.raises(LocalViolation):
        Headers([(name, value)])


def test_a_start_line_cannot_open_a_header() -> None:
    with pytest.raises(LocalViolation):
        Response(403, "no\r\nVia: x").encode()


def test_our_own_chinese_leaves_as_gb18030() -> None:
    message = Response(200, "", Headers([("User-Agent", "通视")]))
    assert b"User-Agent: " + "通视".encode("gb18030") in message.encode()


def test_expires_prefers_the_contact() -> None:
    message = Response(200, "", Headers([("Contact", "<sip:a@b>;expires=60"), ("Expires", "3600")]))
    assert message.expires == 60
    message.headers.remove("Contact")
    assert message.expires == 3600
    message.headers.set("Expires", "³")
    assert message.expires is None


def test_an_unreadable_contact_is_no_contact() -> None:
    for value in ("*", "<sip:", ",", ""):
        assert Response(200, "", Headers([("Contact", value)])).contact is None


def test_bounds_of_a_message() -> None:
    head = b"OPTIONS sip:a@b SIP/2.0\r\n"
    parse(head + b"X: 1\r\n" * 200 + b"\r\n")
    for bad in (
        head + b"X: 1\r\n" * 201 + b"\r\n",
        head + b"X: " + b"a" * 9000 + b"\r\n\r\n",
        head + (b"X: " + b"a" * 7000 + b"\r\n") * 10 + b"\r\n",
        b"OPTIONS sip:" + b"a" * 9000 + b"@b SIP/2.0\r\n\r\n",
    ):
        with pytest.raises(RemoteViolation):
            parse(bad)
    with pytest.raises(RemoteViolation):
        parse(head + b"\r\n" + b"x" * 11, max_body_bytes=10)


def test_cheap_rejection_lets_sip_pass() -> None:
    for good in (b"SIP/2.0 200 OK", b"REGISTER sip:a", b"MESSAGE sip:a"):
        assert looks_like_sip(good)
    for bad in (b"", b"\0\0\0\0", b"\x80\x60", b"sip/2.0 200", b"GET", b"$\0\0"):
        assert not looks_like_sip(bad)


def test_hostile_lists_are_split_in_linear_time() -> None:
    for text in ('"' * 8000 + ",", "<" * 8000 + ",", "\\" * 8000 + ",", '"\\' * 4000 + ","):
        assert len(split_list(text)) <= 2
    assert split_list('"a,b" <sip:x,y@z>, c ,, d') == ['"a,b" <sip:x,y@z>', "c", "d"]


def test_a_reply_mirrors_and_adds_a_tag_only_where_none_is() -> None:
    request = Request(
        "MESSAGE",
        "sip:a@b",
        Headers([("Via", "SIP/2.0/UDP x;branch=z9hG4bK1, SIP/2.0/UDP y"), ("Via", "SIP/2.0/UDP z")]),
    )
    for name, value in (
        ("From", "<sip:a@b>;tag=1"),
        ("To", "<sip:c@d>"),
        ("Call-ID", "i"),
        ("CSeq", "1 MESSAGE"),
    ):
        request.headers.add(name, value)
    source = Remote("192.0.2.1", 5060, "udp")
    response = reply(request, source, 200, to_tag="t")
    assert response.headers.get_all("Via") == [
        "SIP/2.0/UDP x;branch=z9hG4bK1;received=192.0.2.1, SIP/2.0/UDP y",
        "SIP/2.0/UDP z",
    ]
    assert response.to.tag == "t"
    request.headers.set("To", "<sip:c@d>;tag=mine")
    assert reply(request, source, 200, to_tag="t").to.tag == "mine"
