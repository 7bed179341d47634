"""The control interface of a media node has another number whenever it says something else."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from tongshi.gateways.media.nodes.remote import wire


def shapes() -> list[type[msgspec.Struct]]:
    """All that goes over the wire."""
    found = (one for one in vars(wire).values() if isinstance(one, type))
    return [one for one in found if issubclass(one, msgspec.Struct) and not one.__name__.startswith("_")]


def bare(schema: Any) -> Any:
    """A schema without its words."""
    if isinstance(schema, dict):
        return {name: bare(value) for name, value in schema.items() if name != "description"}
    return [bare(one) for one in schema] if isinstance(schema, list) else schema


def test_another_shape_has_another_number() -> None:
    _, components = msgspec.json.schema_components(shapes())
    data = msgspec.json.encode(bare(components), order="deterministic")
    assert (wire.VERSION, hashlib.sha256(data).hexdigest()[:16]) == (3, "4fde26defea359a0"), (
        "what goes between platform and node has changed: count wire.VERSION up and note the new digest here"
    )
    assert f"/media/v{wire.VERSION}/" == wire.PREFIX
