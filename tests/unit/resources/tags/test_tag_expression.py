"""Conditions over tags: bounds, and that what is parsed means what was written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.errors import InvalidRequest
from tongshi.resources.tags import dictionary
from tongshi.resources.tags.expression import (
    MAX_DEPTH,
    MAX_TERMS,
    Expression,
    Node,
    Term,
    bearer,
    check,
    holds,
    terms,
)
from tongshi.resources.tags.wire import TagExpr, expression, expression_of

CODES = st.sampled_from(["a", "b", "c"])
TERM = st.builds(Term, CODES, st.lists(CODES, max_size=3).map(tuple))
TREES: st.SearchStrategy[Expression] = st.recursive(
    TERM,
    lambda inner: st.builds(Node, *(st.lists(inner, max_size=3).map(tuple) for _ in range(3))),
    max_leaves=30,
)


def written(tree: Expression) -> dict[str, Any]:
    """A condition as a caller writes it."""
    if isinstance(tree, Term):
        return {"TagDefineCode": tree.define_code, "tagEnumCodes": list(tree.value_codes)}
    parts = {"all": tree.all_of, "any": tree.any_of, "none": tree.none_of}
    return {name: [written(one) for one in part] for name, part in parts.items() if part}


def depth(tree: Expression) -> int:
    return 0 if isinstance(tree, Term) else 1 + max(map(depth, tree.parts), default=0)


def has_empty(tree: Expression) -> bool:
    return isinstance(tree, Node) and (not tree.parts or any(map(has_empty, tree.parts)))


@given(TREES)
def test_what_is_parsed_is_what_was_written(tree: Expression) -> None:
    text = msgspec.json.encode(written(tree)).decode()
    assert expression(expression_of(text), "expr") == tree


@given(TREES)
def test_a_condition_is_refused_exactly_when_it_breaks_a_bound(tree: Expression) -> None:
    if depth(tree) <= MAX_DEPTH and len(list(terms(tree))) <= MAX_TERMS and not has_empty(tree):
        check(tree, "expr")
        return
    with pytest.raises(InvalidRequest) as caught:
        check(tree, "expr")
    assert caught.value.field == "expr"


@given(st.text(max_size=300))
def test_any_text_is_a_condition_or_is_refused_by_name(text: str) -> None:
    fault = None
    try:
        assert isinstance(expression_of(text), TagExpr)
    except InvalidRequest as error:
        fault = error.field
    assert fault in (None, "tagExpr")


def test_the_bounds_are_four_deep_and_fifty_terms() -> None:
    tree: Expression = Term("a")
    for _ in range(MAX_DEPTH):
        tree = Node(all_of=(tree,))
    check(tree, "expr")
    check(Node(any_of=(Term("a"),) * MAX_TERMS), "expr")
    for bad in (
        Node(all_of=(tree,)),
        Node(any_of=(Term("a"),) * (MAX_TERMS + 1)),
        Node(),
        Node(none_of=(Node(),)),
        Term(""),
    ):
        with pytest.raises(InvalidRequest):
            check(bad, "expr")


def test_a_deep_nest_of_text_is_refused_and_breaks_nothing() -> None:
    with pytest.raises(InvalidRequest):
        expression_of('{"all":[' * 2_000 + "]}" * 2_000)
    for text in ('{"TagDefineCode":"a","all":[]', '{"every":[]}', '{"TagDefineCode":1}', "[]", ""):
        with pytest.raises(InvalidRequest):
            expression_of(text)
    with pytest.raises(InvalidRequest):
        expression(expression_of('{"TagDefineCode":"a","all":[{"TagDefineCode":"b"}]}'), "expr")


def test_all_any_and_none_mean_what_they_say() -> None:
    bears = bearer([("d", "x"), ("d", "y"), ("e", "z")])
    assert holds(Term("d"), bears)
    assert holds(Term("d", ("x", "q")), bears)
    assert holds(Term("", ("z",)), bears)
    assert not holds(Term("d", ("z",)), bears)
    assert holds(Node(all_of=(Term("d", ("x",)), Term("d", ("y",)))), bears)
    assert not holds(Node(any_of=(Term("f"), Term("g"))), bears)
    assert holds(Node(none_of=(Term("f"),)), bears)
    assert not holds(Node(all_of=(Term("d"),), none_of=(Term("e", ("z",)),)), bears)


def test_the_printed_values_are_all_there_and_none_twice() -> None:
    types, parts = dictionary.PLACE_TYPES.split("、"), dictionary.PLACE_PARTS.split("、")
    assert (types[0], types[7], types[-1]) == ("社区", "单位", "机场")
    assert (parts[0], parts[5], parts[-1]) == ("天桥", "高架", "人行道")
    assert len(types) == len(set(types)) == 48
    assert len(parts) == len(set(parts)) == 58
    codes = [value.code for value in dictionary.values()]
    assert len(codes) == len(set(codes)) == 106
    assert all(code.isdigit() for code in codes)
    assert {define.sort for define in dictionary.DEFINES} == {0, 1, 2, 3}
