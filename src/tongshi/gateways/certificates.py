"""Files of TLS while they are in use: our certificate and its key, taken up when they are renewed.

The files are looked at before a handshake, and where somebody asks for ``trouble``, at most once in
``LOOK_S``. What is loaded is a copy in memory, so that the pair that was proved is the pair that is shown. Of
files that cannot be used, or are no pair (the certificate is written, its key not yet), the last good pair
stays; that is said once, and they are read again when they change.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

import structlog

from tongshi.clock import Clock
from tongshi.errors import InvalidRequest
from tongshi.gateways.tls import harden, no_password

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
MAX_BYTES: Final = 1 << 20  # of one file: a chain is some KiB

Mark = tuple[int, int, int]


class WatchedFiles:
    """Whether files are others than at the last look, by the time of change, the size and the inode."""

    def __init__(self, paths: Sequence[str | Path], clock: Clock) -> None:
        self._paths = [Path(path) for path in paths]
        self._clock = clock
        self._looked = clock.now()
        self._seen = self._marks()

    def have_changed(self) -> bool:
        """Look, unless that was just done. A file that is absent is another than one that is there."""
        now = self._clock.now()
        if now - self._looked < LOOK_S:
            return False
        self._looked = now
        marks = self._marks()
        if marks == self._seen:
            return False
        self._seen = marks
        return True

    def _marks(self) -> list[Mark]:
        return [_mark(path) for path in self._paths]


class OwnCertificate:
    """What proves who we are.

    Args:
        certificate, key: files in PEM, the first with its chain, the second without a password.
        field: of the configuration, for the error.

    Raises:
        InvalidRequest: a file is missing or unreadable, or the two do not belong together.
    """

    def __init__(self, certificate: str, key: str, clock: Clock, field: str) -> None:
        self._certificate, self._key, self._field = certificate, key, field
        self._files = WatchedFiles((certificate, key), clock)
        self._pair = self._read()
        self.trouble = ""

    def look(self) -> bool:
        """Take up renewed files. True when others are shown from now on."""
        if not self._files.have_changed():
            return False
        try:
            self._pair = self._read()
        except InvalidRequest as error:
            self.trouble = f"{error.message}，仍使用原有证书"
            log.error("tls_certificate_refused", certificate=self._certificate, reason=error.message)
            return False
        self.trouble = ""
        log.info("tls_certificate_renewed", certificate=self._certificate)
        return True

    def show(self, context: ssl.SSLContext) -> None:
        """Let a new context show it."""
        certificate, key = self._pair
        context.load_cert_chain(_path_of(certificate), _path_of(key), password=no_password)

    def serving(self) -> ssl.SSLContext:
        """A context for a server's whole life: each handshake gets what is to be shown then.

        A renewed certificate is not loaded into the context in use: beside one with a key of another kind
        (RSA, EC) it would show either, as the client prefers.
        """
        door, made, pair = _server_context(), self._made(), self._pair

        def choose(handshake: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
            nonlocal made, pair
            self.look()
            if pair is not self._pair:
                made, pair = self._made(), self._pair
            handshake.context = made

        door.sni_callback = choose  # called also for who names nobody
        return door

    def _made(self) -> ssl.SSLContext:
        context = _server_context()
        self.show(context)
        return context

    def _read(self) -> tuple[IO[bytes], IO[bytes]]:
        """Copies of both files, when they can be used together; they go with who holds them."""
        try:
            pair = _copy(Path(self._certificate)), _copy(Path(self._key))
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                _path_of(pair[0]), _path_of(pair[1]), password=no_password
            )
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            text = f"TLS 证书 {self._certificate} 与私钥 {self._key} 不能使用：{_words(error)}"
            raise InvalidRequest(text, field=self._field) from error
        return pair


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    harden(context)
    return context


def _mark(path: Path) -> Mark:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino


def _copy(path: Path) -> IO[bytes]:
    """OpenSSL reads from files alone; a private key is not written to another disk for that."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path} 超过 {MAX_BYTES >> 20} MB")
    copy = os.fdopen(os.memfd_create("tls"), "w+b")
    copy.write(data)
    copy.flush()
    return copy


def _path_of(copy: IO[bytes]) -> str:
    return f"/proc/self/fd/{copy.fileno()}"


def _words(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} 不存在"
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "二者不是一对"
    return str(error)
