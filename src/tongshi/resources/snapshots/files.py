"""Pictures on disk: one file each, written whole or not at all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tongshi.errors import NotFound, Unavailable

_ENDING: Final = ".jpg"
_UNFINISHED: Final = ".part"
LOOK_AT_ONCE: Final = 500


class PictureFiles:
    """Files below one folder, spread over 256 folders by the first two digits of their number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def write(self, picture_id: str, data: bytes) -> None:
        """Write one. Raises Unavailable: the disk is full or cannot be written."""
        try:
            await asyncio.to_thread(_write, self._path(picture_id), data)
        except OSError as error:
            raise Unavailable("服务器无法保存图像，请检查磁盘空间", retry_after_s=60) from error

    async def read(self, picture_id: str) -> bytes:
        """Read one. Raises NotFound: the file is gone."""
        try:
            return await asyncio.to_thread(self._path(picture_id).read_bytes)
        except OSError as error:
            raise NotFound("图像文件不存在", code=40400) from error

    async def remove(self, picture_id: str) -> None:
        """Remove one; nothing happens when it is gone."""
        await asyncio.to_thread(self._path(picture_id).unlink, missing_ok=True)

    def batches(self) -> Iterator[list[str]]:
        """Numbers of all files, some at once; what a process left half-written is removed meanwhile."""
        found: list[str] = []
        for path in sorted(self._folder.glob("??/*")):
            if path.suffix == _UNFINISHED:
                path.unlink(missing_ok=True)
            elif path.suffix == _ENDING:
                found.append(path.stem)
            if len(found) >= LOOK_AT_ONCE:
                yield found
                found = []
        if found:
            yield found

    def _path(self, picture_id: str) -> Path:
        return self._folder / picture_id[:2] / f"{picture_id}{_ENDING}"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(_UNFINISHED)
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
