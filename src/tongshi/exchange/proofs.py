"""The root that a set of archives has, computed for a sender that has no software of ours.

Implements: DB31DSJ/Z 001-2024 6.3.2
A full ends with a proof: count and digest of each owner. A department that pushes with ``curl`` cannot write
our canonical rows, so it may send its whole list once more and be told the root of exactly that list. Nothing
is stored and nothing stored is read: the answer depends on the items alone. ``full:complete`` then compares
it with what the pages really left behind, so that a page that was cut or lost is noticed. Lists longer than
one batch need the rows' digests from their sender.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from tongshi.audit.tags import AuditTag
from tongshi.errors import Forbidden, TongshiError
from tongshi.exchange.model import MAX_BATCH_ITEMS, MAX_REJECTIONS_SHOWN, OwnerRoot, Rejection
from tongshi.ids import platform_id
from tongshi.resources.devices import digest_store, wire
from tongshi.resources.devices.model import DeviceArchive, digest
from tongshi.sharing.gate import subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota, Request


class RootOf(Request, frozen=True):
    """A whole archive in the form ``full``; of two items of one device the last counts."""

    items: Annotated[list[msgspec.Raw], Meta(max_length=MAX_BATCH_ITEMS)]


class RootAnswer(Answer, frozen=True):
    """What to send as ``roots``; a rejected item is in none of them."""

    roots: list[OwnerRoot]
    rejected_count: int
    rejected: list[Rejection]


def roots_of(archives: Iterable[DeviceArchive]) -> list[OwnerRoot]:
    """Count and digest of each owner, as the digest tree has them once just these are held."""
    leaves: dict[str, dict[str, list[bytes]]] = defaultdict(lambda: defaultdict(list))
    for archive in {archive.device_id: archive for archive in archives}.values():
        leaves[archive.owner][archive.shard].append(digest(archive))
    return [OwnerRoot(owner, *_root(shards)) for owner, shards in sorted(leaves.items())]


def operations() -> list[AnyOperation]:
    """The operation that computes a root."""

    async def root(call: Call[RootOf, Nothing]) -> RootAnswer:
        sender = subject_of(call).platform_id
        if not sender:
            raise Forbidden("推送须用代表平台的密钥签名")
        archives: list[DeviceArchive] = []
        rejected: list[Rejection] = []
        for index, item in enumerate(call.body.items):
            try:
                archives.append(_owned(wire.decode(item), sender))
            except TongshiError as error:
                rejected.append(Rejection(index, "", error.code, error.message, error.field))
        return RootAnswer(roots_of(archives), len(rejected), rejected[:MAX_REJECTIONS_SHOWN])

    return [
        Operation(
            name="rootOfDevices",
            method="POST",
            path="/exchange/v1/devices:root",
            summary="计算一组设备档案的数量与摘要",
            permission=Permission.EXCHANGE_PUSH,
            quota=Quota.EXCHANGE,
            audit=AuditTag.EXCHANGE_DIGEST,
            body=RootOf,
            query=Nothing,
            response=RootAnswer,
            handler=root,
        )
    ]


def _owned(archive: DeviceArchive, sender: str) -> DeviceArchive:
    owner = platform_id(archive.owner or sender, "sourcePlatform")
    return msgspec.structs.replace(archive, owner=owner)


def _root(shards: dict[str, list[bytes]]) -> tuple[int, str]:
    root = hashlib.new("sm3")
    count = 0
    for shard, digests in sorted(shards.items()):
        root.update(f"{shard}\0{len(digests)}\0".encode() + digest_store.combine(digests))
        count += len(digests)
    return count, root.hexdigest()
