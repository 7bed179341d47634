"""What all cameras of a process share: clips, letters, sound, the threads that pace them."""

from __future__ import annotations

import threading
from pathlib import Path

from tongshi.clock import Clock
from tongshi.errors import NotFound
from tongshi.testing.audio import chimes
from tongshi.testing.clips import Clip, load_clip
from tongshi.testing.lettering import Lettering
from tongshi.testing.picture import Codec, Picture
from tongshi.testing.stream import Pacer


class Studio:
    """Opens pictures over a folder of clips. Thread-safe.

    Args:
        clips: folder made by ``make_clips``; a file put there by hand is a scene too, named by its stem.
        threads: that draw and code; more than cores, because sending waits now and then.
    """

    def __init__(self, clips: Path, clock: Clock, threads: int = 4) -> None:
        self.pacer = Pacer(clock, threads)
        self._folder = clips
        self._lettering = Lettering()
        self._loaded: dict[str, Clip] = {}
        self._loading = threading.Lock()
        self.sound = chimes()

    def scenes(self) -> list[str]:
        """Names that a camera can show, sorted."""
        return sorted(path.stem for path in self._folder.glob("*.mp4"))

    def clip(self, scene: str) -> Clip:
        """The clip of a scene, decoded at the first use. Raises NotFound, InvalidRequest (not decodable)."""
        with self._loading:
            if scene not in self._loaded:
                path = self._folder / f"{scene}.mp4"
                if not path.is_file():
                    raise NotFound(f"没有名为 {scene} 的场景素材", field="scene")
                self._loaded[scene] = load_clip(path)
            return self._loaded[scene]

    def open_picture(
        self,
        scene: str,
        *,
        label: str,
        device_id: str,
        codec: Codec,
        rate_kbps: int,
        is_small: bool = False,
    ) -> Picture:
        """A fresh coder for one receiver of one camera."""
        offset = sum(device_id.encode()) * 7
        return Picture(
            self.clip(scene),
            self._lettering,
            label=label,
            fallback_label=device_id,
            codec=codec,
            rate_kbps=rate_kbps,
            clip_offset=offset,
            is_small=is_small,
        )

    def close(self) -> None:
        """End every stream and thread, forget the clips."""
        self.pacer.close()
        self._loaded.clear()
