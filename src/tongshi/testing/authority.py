"""Certificates of tests, made by the command that operators use (openssl)."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_RSA_KEY = ("-newkey", "rsa:2048", "-nodes")


@dataclass(frozen=True)
class Authority:
    """A CA in a folder, and what it signs."""

    folder: Path
    name: str

    @property
    def ca(self) -> str:
        """Its own certificate."""
        return str(self.folder / f"{self.name}.pem")

    def make(self) -> Authority:
        """Make it; itself."""
        self._run(
            "req", "-x509", *_KEY, "-keyout", f"{self.name}.key", "-out", self.ca, "-days", "30",
            "-subj", f"/CN={self.name}", "-addext", "basicConstraints=critical,CA:TRUE",
        )  # fmt: skip
        return self

    def sign(
        self, name: str, alternative: str = "IP:127.0.0.1", days: int = 30, *, is_rsa: bool = False
    ) -> tuple[str, str]:
        """A certificate and its key."""
        key, request = str(self.folder / f"{name}.key"), str(self.folder / f"{name}.csr")
        made, extension = str(self.folder / f"{name}.pem"), self.folder / f"{name}.ext"
        extension.write_text(f"subjectAltName={alternative}\n")
        self._run(
            "req",
            "-new",
            *(_RSA_KEY if is_rsa else _KEY),
            "-keyout",
            key,
            "-out",
            request,
            "-subj",
            f"/CN={name}",
        )
        self._run(
            "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", f"{self.name}.key",
            "-CAcreateserial", "-out", made, "-days", str(days), "-extfile", str(extension),
        )  # fmt: skip
        return made, key

    def revoke(self, *certificates: str, is_over: bool = False, is_list: bool = True) -> str:
        """The list of what this CA has withdrawn; ``is_over``: one that should have been replaced before."""
        made, config = str(self.folder / f"{self.name}.crl"), self.folder / f"{self.name}.cnf"
        database = self.folder / f"{self.name}.index"
        if not is_list:
            Path(made).write_text("no list")
            return made
        database.write_text("")
        config.write_text(
            f"[ca]\ndefault_ca=d\n[d]\ndatabase={database}\ndefault_md=sha256\nunique_subject=no\n"
        )
        common = ("ca", "-config", str(config), "-keyfile", f"{self.name}.key", "-cert", self.ca)
        for one in certificates:
            self._run(*common, "-revoke", one)
        dates = ("-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z")
        self._run(*common, "-gencrl", "-out", made, *(dates if is_over else ("-crldays", "9")))
        return made

    def _run(self, *words: str) -> None:
        command = ["openssl", *words]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)  # noqa: S603  # our own
