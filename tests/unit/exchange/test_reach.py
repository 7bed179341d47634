"""What a caller who pulls is told of: never more than was granted, never more than was asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tongshi.exchange.reach import Reach, is_in

OWNERS = ("A", "B")
DIVISION = st.sampled_from(["31", "32", "3101", "3102", "310101", "310104", "31010401", "31010402"])
CODE = st.one_of(st.just(""), DIVISION)


@given(
    st.one_of(st.none(), st.frozensets(st.sampled_from(OWNERS))),
    st.frozensets(DIVISION, max_size=3),
    st.frozensets(DIVISION, max_size=3),
    st.sampled_from(OWNERS),
    CODE,
)
def test_within_is_the_meeting_of_grant_and_question(
    owners: frozenset[str] | None,
    divisions: frozenset[str],
    asked: frozenset[str],
    owner: str,
    code: str,
) -> None:
    reach = Reach("", owners, divisions).narrowed(asked)
    is_granted = owners is None or owner in owners or any(code.startswith(d) for d in divisions)
    is_asked = not asked or any(code.startswith(prefix) for prefix in asked)
    assert is_in(code, reach.granted(owner)) == is_granted
    assert is_in(code, reach.within(owner)) == (is_granted and is_asked)


def test_a_division_within_another_is_counted_once() -> None:
    reach = Reach("", frozenset(), frozenset({"3101", "310104", "31010401", "32"}))
    assert reach.within("A") == ("3101", "32")
