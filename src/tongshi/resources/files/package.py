"""A package: one data file, a manifest that says what is in it, and a signature over the manifest.

The signature is HMAC-SM3 with the secret that the grantee's key already has for signed requests: both sides
hold it, nothing new has to be handed over, and it needs no library beyond Python's own. It proves to the
grantee who made the package; to a third person the audit record of the export proves it. A package that a
person takes for herself is signed with the platform's own key, so that the platform knows its own again.

The manifest carries, for each owner, count and digest of the rows in the package, computed as for the
exchange, and whether these are all the rows the owner has.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, cast

import msgspec

from tongshi.resources.devices import wire
from tongshi.resources.devices.model import DeviceArchive, digest
from tongshi.resources.files.csv_rows import CsvWriter
from tongshi.resources.files.model import (
    MAX_INFLATED_BYTES,
    DataFile,
    Format,
    Manifest,
    PackageOwner,
    Signature,
    bad_file,
    parquet_missing,
)
from tongshi.resources.files.parquet_writer import ParquetWriter, is_installed
from tongshi.resources.files.rows import MANIFEST
from tongshi.resources.files.table import COLUMNS, Cell, cells
from tongshi.resources.files.xlsx_reader import Archive
from tongshi.resources.files.xlsx_writer import XlsxWriter

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SIGNATURE = "signature.json"
_MAX_PART_BYTES = 4 * 1024 * 1024
_MODULUS = 1 << 256


@dataclass(frozen=True, slots=True)
class Key:
    """With which a package is signed."""

    id: str
    secret: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What a manifest says beyond its rows."""

    platform: str
    feed: str
    position: int
    at: datetime
    grants: tuple[str, ...] = ()


class OwnerSums:
    """Counts and digests of rows by owner and shard, as the exchange's digest tree has them."""

    def __init__(self) -> None:
        self._leaves: dict[str, dict[str, tuple[int, int]]] = {}

    def add(self, archive: DeviceArchive) -> None:
        """Count one row."""
        leaves = self._leaves.setdefault(archive.owner, {})
        count, total = leaves.get(archive.shard, (0, 0))
        leaves[archive.shard] = (count + 1, total + int.from_bytes(digest(archive), "big"))

    def roots(self) -> dict[str, tuple[int, str]]:
        """Count and hexadecimal SM3 of each owner."""
        found: dict[str, tuple[int, str]] = {}
        for owner, leaves in sorted(self._leaves.items()):
            root = hashlib.new("sm3")
            for shard, (count, total) in sorted(leaves.items()):
                value = (total % _MODULUS).to_bytes(32, "big")
                root.update(f"{shard}\0{count}\0".encode() + value)
            found[owner] = (sum(count for count, _ in leaves.values()), root.hexdigest())
        return found


class RowWriter(Protocol):
    """One form of a data file."""

    def add(self, rows: Sequence[Sequence[Cell]], /) -> None: ...
    def close(self) -> None: ...


class PackageWriter:
    """Writes a package as a stream; ``close`` makes it whole. Memory does not grow with rows."""

    def __init__(self, path: Path, form: Format) -> None:
        self._path = path
        self._form = form
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        info = zipfile.ZipInfo(f"devices.{form.value}")
        # A workbook and a Parquet file are packed already.
        is_packed = form in (Format.XLSX, Format.PARQUET)
        info.compress_type = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
        self._data = _Hashed(self._zip.open(info, "w", force_zip64=True))
        self._name = info.filename
        self._writer = _writer(form, cast(IO[bytes], self._data))
        self.sums = OwnerSums()
        self.count = 0
        # A job that is cancelled discards while its worker thread may still be writing.
        self._lock = threading.Lock()

    def add(self, archives: Sequence[DeviceArchive]) -> None:
        """Write rows, in the order of DeviceID."""
        with self._lock:
            if self._writer is None:
                self._data.write(b"".join(_line(archive) for archive in archives))
            else:
                self._writer.add([cells(archive) for archive in archives])
            for archive in archives:
                self.sums.add(archive)
            self.count += len(archives)

    def close(self, origin: Origin, complete: frozenset[str], key: Key) -> Manifest:
        """End the package: ``complete`` are the owners all of whose rows are in it."""
        if self._writer is not None:
            self._writer.close()
        self._data.close()
        owners = [
            PackageOwner(owner, count, value, owner in complete)
            for owner, (count, value) in self.sums.roots().items()
        ]
        manifest = Manifest(
            platform=origin.platform,
            feed=origin.feed,
            position=origin.position,
            as_of=origin.at,
            count=self.count,
            format=self._form,
            files=[DataFile(self._name, self._data.size_bytes, self._data.sm3.hexdigest())],
            columns=[] if self._writer is None else list(COLUMNS),
            owners=owners,
            grants=list(origin.grants),
        )
        body = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        self._zip.writestr(MANIFEST, body)
        self._zip.writestr(SIGNATURE, msgspec.json.encode(sign(body, key)))
        self._zip.close()
        return manifest

    def discard(self) -> None:
        """Leave nothing behind, whatever became of the disk."""
        with self._lock:
            self._path.unlink(missing_ok=True)
            if isinstance(self._writer, XlsxWriter):
                self._writer.discard()
            for part in (self._data, self._zip):
                # What is being thrown away need not be whole.
                with contextlib.suppress(OSError, ValueError):
                    part.close()


@dataclass(frozen=True, slots=True)
class Opened:
    """A package whose data file was taken out and equals what the manifest says of it."""

    manifest: Manifest
    manifest_bytes: bytes
    signature: Signature
    data: Path

    def is_signed_with(self, key: Key) -> bool:
        """Whether the signature is that of ``key``."""
        wanted = sign(self.manifest_bytes, key)
        is_same_key = self.signature.key_id == key.id and self.signature.algorithm == wanted.algorithm
        return is_same_key and hmac.compare_digest(self.signature.value, wanted.value)


def open_package(path: Path, data: Path) -> Opened:
    """Check a package's parts against each other and take its data file out into ``data``.

    Who signed it is for the caller to judge, before anything of it counts.

    Raises:
        Unprocessable: parts are missing or broken, or the data file is another than the manifest's.
    """
    with Archive(path) as archive:
        manifest_bytes = archive.read(MANIFEST, _MAX_PART_BYTES)
        try:
            manifest = msgspec.json.decode(manifest_bytes, type=Manifest)
            signature = msgspec.json.decode(archive.read(SIGNATURE, 4096), type=Signature)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise bad_file(f"文件包的清单或签名无法读取：{error}", rule="manifest") from error
        if len(manifest.files) != 1 or manifest.version != 1:
            raise bad_file("文件包的版本或数据文件个数不受支持", rule="manifest")
        promised = manifest.files[0]
        if promised.size_bytes > MAX_INFLATED_BYTES:
            raise bad_file("解压后过大", rule="zip-bomb")
        sm3 = hashlib.new("sm3")
        with data.open("wb") as file:
            for chunk in archive.chunks(promised.name):
                sm3.update(chunk)
                file.write(chunk)
    if sm3.hexdigest() != promised.sm3:
        raise bad_file("数据文件与清单的 SM3 不符", rule="digest")
    return Opened(manifest, manifest_bytes, signature, data)


def signature_of(path: Path) -> Signature | None:
    """The signature in a package that we wrote; None when it is gone."""
    try:
        with zipfile.ZipFile(path) as package:
            return msgspec.json.decode(package.read(SIGNATURE), type=Signature)
    except FileNotFoundError:
        return None


def sign(manifest: bytes, key: Key) -> Signature:
    """The signature of a manifest."""
    return Signature(key.id, hmac.new(key.secret.encode(), manifest, "sm3").hexdigest())


class _Hashed(io.RawIOBase):
    """A binary stream that counts and hashes what goes through; it cannot seek."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.sm3 = hashlib.new("sm3")
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data)
        self.sm3.update(view)
        self.size_bytes += view.nbytes
        self._stream.write(view)
        return view.nbytes

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def _writer(form: Format, stream: IO[bytes]) -> RowWriter | None:
    """None for NDJSON, whose rows are the nested ones of the REST face."""
    if form is Format.NDJSON:
        return None
    if form is Format.CSV:
        return CsvWriter(stream)
    if form is Format.XLSX:
        return XlsxWriter(stream)
    if not is_installed():
        raise parquet_missing()
    return ParquetWriter(stream)


def _line(archive: DeviceArchive) -> bytes:
    return msgspec.json.encode(wire.to_full(archive)) + b"\n"
