"""The garbage collector's part in the longest pauses."""

from __future__ import annotations

import gc


def settle() -> None:
    """Take what a process has built at its start out of every later full collection.

    It lives as long as the process does. Looking at all of it again took up to a tenth of a second, in the
    middle of somebody's question.
    """
    gc.collect()
    gc.freeze()
