"""What passes between us and a process that codes sound for a file."""

from __future__ import annotations

import struct
from typing import Final

SOUND_HEAD: Final = struct.Struct(">qI")  # before each AAC frame: its time in samples, its length
