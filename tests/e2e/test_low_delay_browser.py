"""A person at the city's console asks for low delay: a district's camera is played by WebRTC.

Needs Debian's Chromium; without it the test is skipped aloud.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page


def test_a_picture_with_low_delay_comes_by_webrtc(
    demo: dict[str, str], page: Page, until: Callable[..., None], pictures: Path
) -> None:
    page.click(f"[data-device='{demo['device']}']")
    page.wait_for_selector("video[data-state=playing]", timeout=20_000)
    page.click("[data-test=way]")
    page.click("[data-test=low-delay]")
    until(page, "document.querySelector('video').srcObject !== null")
    page.wait_for_selector("video[data-state=playing]", timeout=20_000)
    assert "WebRTC" in page.inner_text("[data-test=way-figures]")
    shown = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"
    first = page.evaluate(shown)
    until(page, f"{shown} > {first} + 25")
    page.screenshot(path=str(pictures / "low-delay.png"))
    page.click("[data-test=stop]")
    page.wait_for_selector("video[data-state=idle]", timeout=10_000)
