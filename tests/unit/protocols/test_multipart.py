"""Forms that devices send: taken apart, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.errors import RemoteViolation
from tongshi.protocols.multipart import MAX_PARTS, boundary_of, parse_form

FORM = (
    b'--xx\r\nContent-Disposition: form-data; name="SessionID"\r\n\r\nabc\r\n'
    b'--xx\r\nContent-Disposition: form-data; name="file"; filename="1.jpg"\r\n'
    b"Content-Type: image/jpeg\r\n\r\n\xff\xd8\r\n--x\xff\xd9\r\n--xx--\r\n"
)


def test_a_form_gives_its_fields_and_its_file() -> None:
    field, file = parse_form(FORM, "xx")
    assert (field.name, field.file_name, field.content) == ("SessionID", "", b"abc")
    assert (file.name, file.file_name, file.content_type) == ("file", "1.jpg", "image/jpeg")
    assert file.content == b"\xff\xd8\r\n--x\xff\xd9"
    assert parse_form(b"preamble\r\n" + FORM, "xx") == [field, file]
    assert parse_form(b"--xx--", "xx") == []


def test_the_boundary_is_told_by_the_type() -> None:
    assert boundary_of('multipart/form-data; boundary="a b"') == "a b"
    assert boundary_of("Multipart/Form-Data;boundary=--q1") == "--q1"
    assert boundary_of("image/jpeg") is None
    assert boundary_of("multipart/form-data") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        FORM[:-10],
        FORM.replace(b"\r\n\r\n", b"\r\n"),
        b"--xx\r\nContent-Disposition: form-data\r\n\r\n\r\n" * (MAX_PARTS + 1) + b"--xx--",
        b"--xx\r\nX: " + b"y" * 5_000 + b"\r\n\r\n\r\n--xx--",
    ],
)
def test_what_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteViolation):
        parse_form(body, "xx")


@given(st.binary(max_size=200), st.text(max_size=10))
def test_any_bytes_are_parts_or_refused(body: bytes, boundary: str) -> None:
    for one in (body, b"--" + boundary.encode("latin-1", "replace") + body):
        try:
            assert len(parse_form(one, boundary)) <= MAX_PARTS
        except RemoteViolation:
            pass


@given(st.binary(max_size=100).filter(lambda data: b"\r\n--xx" not in b"\r\n" + data))
def test_what_is_put_into_a_form_comes_out(content: bytes) -> None:
    body = b'--xx\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n\r\n' + content + b"\r\n--xx--"
    (part,) = parse_form(body, "xx")
    assert part.content == content
