"""Trees grow from what nodes and devices say, whatever they say."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tongshi.protocols.gb28181.codes import ItemKind, kind_of
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.trees.model import (
    MAX_DEPTH,
    UNASSIGNED,
    Bundle,
    Fault,
    Node,
    Parent,
    Tree,
    TreeKind,
    grow,
    node_of,
    roots,
)

OWN, LOWER = "31000000002000000001", "31010400002000000001"
GROUP, TOP, NESTED = "31010400002150000001", "31010400002160000001", "31010400002160000002"
NVR = "31010400001180000001"
PLATFORMS = {OWN: "市级平台", LOWER: "徐汇区平台"}


def node(key: str, parents: tuple[str, ...] = (), group: str = "", name: str = "") -> Node:
    return Node(key, kind_of(key), LOWER, name or key, parents, group)


def bundle(
    parents: tuple[str, ...] = (), civil_code: str = "310104", count: int = 1, group: str = ""
) -> Bundle:
    return Bundle(LOWER, civil_code, parents, group, count)


def shape(tree: Tree) -> dict[str, tuple[str, int]]:
    return {key: (branch.parent, branch.count) for key, branch in tree.items()}


def test_a_device_hangs_in_its_division_and_counts_in_all_above() -> None:
    bundles = [bundle(count=2), bundle(civil_code="3101", count=1), bundle(civil_code="31010401", count=4)]
    tree = grow(TreeKind.DIVISION, [node("310104", name="徐汇")], bundles, {}, PLATFORMS)
    assert shape(tree) == {
        "31": ("", 7),
        "3101": ("31", 7),
        "310104": ("3101", 6),
        "31010401": ("310104", 4),
    }
    assert [tree[key].name for key in ("31", "310104", "31010401")] == ["上海市", "徐汇区", "31010401"]


def test_garbage_in_the_division_is_cut_to_its_prefix_and_nothing_is_dropped() -> None:
    bundles = [bundle(civil_code="3101040000"), bundle(civil_code="徐汇"), bundle(civil_code="")]
    tree = grow(TreeKind.DIVISION, [], bundles, {}, PLATFORMS)
    assert tree["310104"].count == 1
    assert tree[UNASSIGNED].count == 2
    assert [branch.id for branch in roots(tree)] == ["31", UNASSIGNED]
    assert tree[UNASSIGNED].name == "未归属"


def test_groups_hold_nested_organisations_and_those_hold_devices() -> None:
    nodes = [node(GROUP, (LOWER,)), node(TOP, group=GROUP), node(NESTED, (TOP,), GROUP)]
    bundles = [bundle((LOWER, NESTED), count=3), bundle((LOWER,), count=2), bundle((), group=GROUP)]
    assert shape(grow(TreeKind.GROUP, nodes, bundles, {}, PLATFORMS)) == {
        GROUP: ("", 4),
        TOP: (GROUP, 3),
        NESTED: (TOP, 3),
        UNASSIGNED: ("", 2),
    }


def test_an_organisation_whose_group_nobody_told_hangs_under_unassigned() -> None:
    tree = grow(TreeKind.GROUP, [node(TOP, group=GROUP)], [bundle((TOP,))], {}, PLATFORMS)
    assert shape(tree) == {TOP: (UNASSIGNED, 1), UNASSIGNED: ("", 1)}


def test_a_channel_hangs_under_its_device_and_that_under_its_platform() -> None:
    parents = {NVR: Parent(NVR, "录像机", bundle((LOWER,)))}
    bundles = [bundle((LOWER,)), bundle((LOWER, NVR), count=16), bundle(("31010400001180000404",))]
    tree = grow(TreeKind.PLATFORM, [], bundles, parents, PLATFORMS)
    assert shape(tree) == {OWN: ("", 0), LOWER: ("", 18), NVR: (LOWER, 16)}


def test_a_platform_below_a_neighbour_hangs_under_it() -> None:
    third = "31010400002000000009"
    tree = grow(TreeKind.PLATFORM, [node(third)], [bundle((third,))], {}, PLATFORMS)
    assert shape(tree) == {OWN: ("", 0), LOWER: ("", 1), third: (LOWER, 1)}


def test_a_circle_of_parents_is_cut_at_the_smallest_id_and_said() -> None:
    names = ["31010400002160000001", "31010400002160000002", "31010400002160000003"]
    nodes = [node(names[i], (names[(i + 1) % 3],)) for i in range(3)]
    for order in (nodes, nodes[::-1]):
        tree = grow(TreeKind.GROUP, order, [bundle((names[1],))], {}, PLATFORMS)
        assert [key for key in names if tree[key].fault is Fault.LOOP] == [names[0]]
        assert tree[names[0]].parent == UNASSIGNED
        assert tree[UNASSIGNED].count == 1


def test_a_device_that_is_its_own_parent_is_shown() -> None:
    parents = {NVR: Parent(NVR, "自环", bundle((NVR,)))}
    tree = grow(TreeKind.PLATFORM, [], [bundle((NVR,))], parents, PLATFORMS)
    assert tree[NVR].fault is Fault.LOOP
    assert tree[UNASSIGNED].count == 1


def test_a_chain_deeper_than_the_bound_is_cut() -> None:
    names = [f"3101040000216{n:07}" for n in range(40)]
    nodes = [node(GROUP), node(names[0], group=GROUP)]
    nodes += [node(key, (above,)) for above, key in pairwise(names)]
    tree = grow(TreeKind.GROUP, nodes, [bundle((names[-1],))], {}, PLATFORMS)
    assert any(branch.fault is Fault.TOO_DEEP for branch in tree.values())
    assert max(depth(tree, key) for key in tree) <= MAX_DEPTH


def test_only_nodes_of_a_catalogue_are_nodes() -> None:
    assert node_of(CatalogItem(device_id=NVR), LOWER, LOWER) is None
    told = node_of(CatalogItem(device_id="3101", name="上海", parent_ids=(LOWER,)), LOWER, LOWER)
    assert told is not None
    assert (told.kind, told.parent_ids) == (ItemKind.DIVISION, ())


def depth(tree: Tree, key: str) -> int:
    steps = 0
    while key:
        key, steps = tree[key].parent, steps + 1
        assert steps < 1000, "a circle"
    return steps


KEYS = st.sampled_from(
    [OWN, LOWER, GROUP, TOP, NESTED, NVR, "3101", "310104", "", "x", UNASSIGNED]
    + [f"3101040000216{n:07}" for n in range(3, 30)]
)
PARENTS = st.lists(KEYS, max_size=3).map(tuple)
NODES = st.builds(node, KEYS.filter(lambda k: kind_of(k) is not ItemKind.DEVICE), PARENTS, KEYS)
BUNDLES = st.builds(bundle, PARENTS, KEYS, st.integers(1, 9), KEYS)
DEVICES = st.dictionaries(
    st.sampled_from([NVR, "31010400001180000002", "31010400001180000003"]), PARENTS, max_size=3
)


@given(st.sampled_from(TreeKind), st.lists(NODES, max_size=40), st.lists(BUNDLES, max_size=10), DEVICES)
def test_no_device_is_lost_and_no_circle_stays(
    kind: TreeKind, nodes: list[Node], bundles: list[Bundle], devices: dict[str, tuple[str, ...]]
) -> None:
    parents = {key: Parent(key, key, bundle(above)) for key, above in devices.items()}
    tree = grow(kind, nodes, bundles, parents, PLATFORMS)
    assert sum(branch.count for branch in roots(tree)) == sum(b.count for b in bundles)
    assert sum(b.count for branch in tree.values() for b in branch.direct) == sum(b.count for b in bundles)
    assert all(depth(tree, key) <= MAX_DEPTH + 1 for key in tree)
