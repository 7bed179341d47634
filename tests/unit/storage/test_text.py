"""Text from outside before it is stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tongshi.storage.text import storable


@given(st.text(st.characters(), max_size=50))
def test_any_text_becomes_one_that_utf8_holds_without_nul(text: str) -> None:
    kept = storable(text, 20)
    assert "\0" not in kept
    assert len(kept) <= 20
    kept.encode("utf-8")


def test_good_text_is_left_alone() -> None:
    assert storable("外滩 “一号”") == "外滩 “一号”"
