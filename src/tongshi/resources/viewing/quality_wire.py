"""The figures of a running stream on the wire.

Implements: DB31DSJ/Z 001-2024 Table E.2
"""

from __future__ import annotations

from tongshi.resources.viewing.model import Coding, Quality
from tongshi.web.operations import Answer


class WireQuality(Answer, frozen=True):
    """Over about the last five seconds (``windowSec``); null is not known.

    ``lossRate`` is 0 to 1. ``delayMs`` is how much later than at best pictures come; ``reportDelayMs`` the
    age of the newest one by the clocks of the sender and ours, when it sends reports. ``keyIntervalMs`` lies
    between the last two key frames. ``kernelDrops`` were lost in this machine because it was late.
    """

    window_sec: float
    bitrate_kbps: float | None
    frame_rate: float | None
    loss_rate: float | None
    jitter_ms: float
    delay_ms: float | None
    report_delay_ms: float | None
    key_interval_ms: float | None
    lost_packets: int
    kernel_drops: int


class WireCoding(Answer, frozen=True):
    """How a stream that is coded anew stands, since it began; ``trouble`` is for the viewer, "" when well.

    Of ``picturesIn`` came ``picturesOut``. ``skipped`` frames (of sound too) never went in, because the coder
    was behind; ``thinned`` were left out because fewer a second were asked for; ``undecoded`` are broken.
    ``speed`` is how fast it could go, 1 being just enough, null while it is not known; ``queuedBytes`` wait.
    """

    pictures_in: int
    pictures_out: int
    skipped: int
    thinned: int
    undecoded: int
    speed: float | None
    queued_bytes: int
    trouble: str


def wire_coding(coding: Coding | None) -> WireCoding | None:
    """The figures as they are told."""
    if coding is None:
        return None
    return WireCoding(
        pictures_in=coding.taken,
        pictures_out=coding.made,
        skipped=coding.skipped,
        thinned=coding.thinned,
        undecoded=coding.undecoded,
        speed=coding.speed,
        queued_bytes=coding.queued_bytes,
        trouble=coding.trouble,
    )


def wire_quality(quality: Quality | None) -> WireQuality | None:
    """The figures as they are told."""
    if quality is None:
        return None
    return WireQuality(
        window_sec=quality.window_s,
        bitrate_kbps=quality.bitrate_kbps,
        frame_rate=quality.frame_rate,
        loss_rate=quality.loss_rate,
        jitter_ms=quality.jitter_ms,
        delay_ms=quality.delay_ms,
        report_delay_ms=quality.report_delay_ms,
        key_interval_ms=quality.key_interval_ms,
        lost_packets=quality.lost_packets,
        kernel_drops=quality.kernel_drops,
    )
