"""The garbage collector's part in the longest pauses."""

from __future__ import annotations

import gc

# Most of what we make dies by its count of references. A look for cycles after every 700 objects, as is the
# default, seldom finds one, and costs the more the more is kept on purpose (timelines, catalogues).
_AFTER_OBJECTS, _YOUNG_ROUNDS, _MIDDLE_ROUNDS = 20_000, 20, 50


def settle() -> None:
    """Take what a process has built at its start out of every later full collection, and collect less often.

    It lives as long as the process does. Looking at all of it again took up to a tenth of a second, in the
    middle of somebody's question.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_AFTER_OBJECTS, _YOUNG_ROUNDS, _MIDDLE_ROUNDS)
