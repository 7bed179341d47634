"""Paths of calls: prefixed in answers, shortened in requests, refused in circles."""

from __future__ import annotations

import pytest

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181 import routing

A, B, C = "34000000002000000001", "34020000002000000001", "34020500002000000001"


def test_a_path_reads_back_as_it_was_written() -> None:
    assert routing.parse_path(routing.render_path((A, B, C))) == (A, B, C)
    assert routing.parse_path("") == ()
    assert routing.parse_path(f" {A} - {B} ") == (A, B)


@pytest.mark.parametrize("text", ["nonsense", f"{A}-", f"-{A}", f"{A}--{B}", A[:19], "-".join([A] * 17)])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(RemoteViolation):
        routing.parse_path(text)


def test_each_platform_takes_itself_out_of_the_preferred_path() -> None:
    assert routing.onward((A, B, C), A) == (B, C)
    assert routing.onward((C,), C) == ()
    assert routing.onward((B, C), A) == ()  # not in it: the default way


def test_each_platform_puts_itself_before_the_path_of_the_answer() -> None:
    assert routing.route_of(A, B, f"{B}-{C}") == (A, B, C)
    assert routing.route_of(A, B, "") == (A, B)  # the lower one told none
    assert routing.route_of(A, B, "nonsense") == (A, B)
    assert routing.route_of(A, "", "") == (A,)  # a device


def test_identities_are_prefixed_and_who_finds_itself_in_one_stops() -> None:
    identity = routing.identity_through(B, routing.identity_through(A, "user"))
    assert identity == f"{B}-{A}-user"
    assert routing.identity_through(A, "") == A
    assert routing.has_passed(A, identity)
    assert not routing.has_passed(C, identity)
    assert routing.has_passed(C, "-".join(["x"] * 17))
    with pytest.raises(RemoteViolation):
        routing.has_passed(C, "x" * 1_025)
