"""SIP: what was rendered is read again, and any bytes give a value or a RemoteViolation."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tongshi.errors import RemoteViolation
from tongshi.protocols.sip.address import NameAddr, Uri, Via, parse_params, split_list
from tongshi.protocols.sip.agent import UserAgent
from tongshi.protocols.sip.composing import Identity
from tongshi.protocols.sip.digest import Authorization, Challenge
from tongshi.protocols.sip.message import Headers, Remote, Request, Response, parse
from tongshi.protocols.sip.stream import StreamParser

CORPUS = [path.read_bytes() for path in sorted((Path(__file__).parents[1] / "data" / "sip").rglob("*.sip"))]
GOOD = [
    path.read_bytes() for path in sorted((Path(__file__).parents[1] / "data" / "sip" / "good").glob("*.sip"))
]
MARKS = [b"\r\n", b"\n ", b'"', b"<", b">", b";", b",", b"\0"]
ME = Identity("34020000002000000001", "192.0.2.10", 5060)
SOURCE = Remote("192.0.2.1", 5060, "udp")

tokens = st.from_regex(r"[A-Za-z0-9.!%*_+`'~-]{1,20}", fullmatch=True)
values = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60
).map(lambda text: text.strip(" \t"))
names = tokens.filter(lambda name: name.lower() not in ("content-length", "l"))
headers = st.lists(st.tuples(names, values), max_size=20)
uris = st.builds(
    lambda user, host, port: f"sip:{user}@{host}" + (f":{port}" if port else ""),
    st.from_regex(r"[0-9]{1,20}", fullmatch=True),
    st.sampled_from(["3402000000", "192.0.2.1", "[2001:db8::1]", "3402000000.spvmn.cn"]),
    st.integers(0, 65535),
)
requests = st.builds(
    lambda method, uri, lines, body: Request(method, uri, Headers(lines), body),
    st.from_regex(r"[A-Z]{3,16}", fullmatch=True),
    uris,
    headers,
    st.binary(max_size=200),
)
responses = st.builds(
    lambda status, reason, lines, body: Response(status, reason, Headers(lines), body),
    st.integers(100, 699),
    values.filter(bool),
    headers,
    st.binary(max_size=200),
)


@given(st.one_of(requests, responses))
def test_a_rendered_message_is_read_as_it_was(message: Request | Response) -> None:
    assert parse(message.encode()) == message


@given(st.lists(st.one_of(requests, responses), max_size=5), st.data())
def test_any_segmentation_of_a_stream_gives_the_same_messages(
    messages: list[Request | Response], data: st.DataObject
) -> None:
    stream = b"\r\n".join(message.encode() for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parser, frames = StreamParser(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        frames += parser.feed(stream[start:end])
    assert parser.violation is None
    assert [parse(frame) for frame in frames] == messages


def look_everywhere(message: Request | Response) -> None:
    for read in (
        message.check,
        lambda: message.via,
        lambda: message.from_,
        lambda: message.to,
        lambda: message.cseq,
        lambda: message.call_id,
        lambda: message.contact,
        lambda: message.expires,
        lambda: message.content_type,
        lambda: message.uri if isinstance(message, Request) else None,
    ):
        try:
            read()
        except RemoteViolation:
            pass
    again = parse(message.encode())
    assert again == message


def mutated(data: st.DataObject) -> bytes:
    raw = bytearray(data.draw(st.sampled_from(CORPUS)))
    for _ in range(data.draw(st.integers(1, 6))):
        if not raw:
            break
        place = data.draw(st.integers(0, len(raw) - 1))
        what = data.draw(st.sampled_from(["set", "drop", "insert", "copy"]))
        if what == "set":
            raw[place] = data.draw(st.integers(0, 255))
        elif what == "drop":
            del raw[place : place + data.draw(st.integers(1, 20))]
        elif what == "insert":
            raw[place:place] = data.draw(
                st.sampled_from([b"\r\n", b"\n ", b'"', b"<", b">", b";", b",", b"\0"])
            )
        else:
            raw += raw[place : place + 60]
    return bytes(raw)


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=300), st.data()))
def test_any_bytes_give_a_message_or_a_violation(given_bytes: bytes | st.DataObject) -> None:
    raw = given_bytes if isinstance(given_bytes, bytes) else mutated(given_bytes)
    try:
        message = parse(raw)
    except RemoteViolation:
        return
    look_everywhere(message)


@settings(max_examples=200)
@given(st.lists(st.one_of(st.binary(max_size=100), st.sampled_from(CORPUS)), max_size=5))
def test_any_stream_gives_frames_or_a_violation_and_keeps_little(chunks: list[bytes]) -> None:
    parser = StreamParser()
    for chunk in chunks:
        for frame in (*parser.feed(chunk), *parser.pause()):
            assert frame
    assert parser.buffered_bytes <= sum(map(len, chunks))


@settings(max_examples=300)
@given(st.data())
def test_an_agent_survives_anything_and_never_answers_more_than_once(data: st.DataObject) -> None:
    agent = UserAgent(
        Identity("34020000002000000001", "192.0.2.10", 5060), random_bytes=lambda size: b"r" * size
    )
    raw = data.draw(st.one_of(st.binary(max_size=200), st.builds(lambda: mutated(data))))
    agent.receive(raw, SOURCE, 0.0)
    assert len(agent.take_output()) <= 1
    while agent.next_event() is not None:
        pass


text = st.text(st.characters(max_codepoint=0xFF), max_size=80)


@given(text)
def test_any_text_gives_an_address_or_a_violation(value: str) -> None:
    for read in (Uri.parse, NameAddr.parse, Via.parse, Challenge.parse, Authorization.parse):
        try:
            first = read(value)
        except RemoteViolation:
            continue
        assert first is not None
    split_list(value)
    parse_params(value)


@given(text.map(lambda value: "Digest " + value))
def test_any_digest_header_gives_credentials_or_a_violation(value: str) -> None:
    for read in (Challenge.parse, Authorization.parse):
        try:
            read(value)
        except RemoteViolation:
            pass


@given(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=20).map(
        lambda name: name.strip(" \t")
    ),
    uris,
    st.lists(st.tuples(tokens, st.none() | tokens), max_size=3),
)
def test_a_rendered_address_is_read_as_it_was(
    display: str, uri: str, params: list[tuple[str, str | None]]
) -> None:
    address = NameAddr(Uri.parse(uri), display, tuple(params))
    assert NameAddr.parse(str(address)) == address
