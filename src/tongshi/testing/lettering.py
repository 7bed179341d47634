"""Letters for the picture: each glyph is drawn once, white with a dark edge, and then only copied.

Not here: where the letters go (``picture``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

log = structlog.get_logger(__name__)

_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".local/share/fonts")
_CHINESE = (
    "NotoSansCJK-Bold.ttc", "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-*.otf", "NotoSansSC*.[ot]tf",
    "SourceHanSans*.[ot]t[cf]", "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallback*.ttf",
)  # fmt: skip
_LATIN = ("DejaVuSans-Bold.ttf", "DejaVuSans.ttf", "LiberationSans-Bold.ttf")
_LARGEST_CACHE = 512

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Strip:
    """A line of letters: ``ink`` where ``mask`` is set, and the mask at half size for the chroma planes."""

    ink: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    half_mask: NDArray[np.bool_]


class Lettering:
    """Lines of text as strips of an even height, cached; shared by all cameras of a process."""

    def __init__(self, size: int = 20, font: Path | None = None) -> None:
        chosen = font or find_font(_CHINESE)
        self.has_chinese = chosen is not None
        if chosen is None:
            chosen = find_font(_LATIN)
            log.warning("no_chinese_font", instead=str(chosen), bring="fonts-noto-cjk")
        self._font = _open_font(chosen, size)
        self._height = (size * 3 // 2) & ~1
        self.strip = lru_cache(_LARGEST_CACHE)(self._compose)
        self._glyph = lru_cache(_LARGEST_CACHE * 4)(self._draw_glyph)

    def _compose(self, text: str) -> Strip:
        """The strip of one line; glyphs the font lacks come out as its box."""
        ink = np.concatenate([self._glyph(letter)[0] for letter in text or " "], axis=1)
        mask = np.concatenate([self._glyph(letter)[1] for letter in text or " "], axis=1)
        even = ink.shape[1] & ~1
        mask = mask[:, :even]
        return Strip(ink[:, :even], mask, mask[::2, ::2] | mask[1::2, 1::2])

    def _draw_glyph(self, letter: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        advance = max(1, round(self._font.getlength(letter)))
        image = Image.new("LA", (advance, self._height), (16, 0))
        ImageDraw.Draw(image).text(
            (0, 0), letter, font=self._font, fill=(235, 255), stroke_width=1, stroke_fill=(24, 255)
        )
        pixels = np.asarray(image)
        return pixels[:, :, 0].copy(), pixels[:, :, 1] > 96


def find_font(names: tuple[str, ...], folders: tuple[Path, ...] = _FOLDERS) -> Path | None:
    """The first font of ``names`` (globs, best first) that is installed below ``folders``."""
    for name in names:
        for folder in folders:
            found = sorted(folder.rglob(name)) if folder.is_dir() else []
            if found:
                return found[0]
    return None


def _open_font(path: Path | None, size: int) -> Font:
    if path is None:
        return ImageFont.load_default(size)
    if path.suffix == ".ttc" and "CJK" in path.name:
        # The collection begins with the Japanese faces, whose forms of the same characters differ.
        for index in range(10):
            try:
                font = ImageFont.truetype(str(path), size, index=index)
            except OSError:
                break
            if (font.getname()[0] or "").endswith("SC"):
                return font
    return ImageFont.truetype(str(path), size)
