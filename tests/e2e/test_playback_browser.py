"""A person at the city's console looks at recordings of a district's camera: found, played, paused, left.

Needs Debian's Chromium; without it the test is skipped aloud.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from playwright.sync_api import Page

from tongshi.clock import BEIJING


def _time(page: Page) -> float:
    return float(page.evaluate("document.querySelector('video').currentTime"))


def test_a_day_of_recordings_is_shown_played_paused_and_sped_up(
    demo: dict[str, str], page: Page, until: Callable[..., None], pictures: Path
) -> None:
    page.click(f"[data-device='{demo['device']}']")
    page.click("[data-test=mode-recorded]")
    yesterday = datetime.now(BEIJING) - timedelta(days=1)
    page.fill("[data-test=day]", yesterday.strftime("%Y-%m-%d"))
    page.wait_for_selector("[data-test=segment]", timeout=20_000)
    assert page.locator("[data-test=segment]").count() > 5
    page.click("[data-test=play-first]")
    page.wait_for_selector("video[data-state=playing]", timeout=20_000)
    first = _time(page)
    until(page, f"document.querySelector('video').currentTime > {first} + 1")
    page.screenshot(path=str(pictures / "playback.png"))
    page.click("[data-test=pause]")
    page.wait_for_selector("video[data-state=paused]", timeout=10_000)
    standing = page.inner_text("[data-test=position]")
    page.wait_for_timeout(1_500)
    assert page.inner_text("[data-test=position]") == standing
    page.click("[data-test=pause]")
    page.wait_for_selector("video[data-state=playing]", timeout=10_000)
    page.click("[data-test=stop]")
    page.wait_for_selector("video[data-state=idle]", timeout=10_000)
    page.click("[data-test=mode-live]")
    page.wait_for_selector("video[data-state=playing]", timeout=20_000)


def test_a_reload_a_link_and_back_show_the_recording_that_was_looked_at(
    demo: dict[str, str], page: Page, until: Callable[..., None]
) -> None:
    """What is looked at stands in the address: the day, the moment that is played, how fast."""
    yesterday = (datetime.now(BEIJING) - timedelta(days=1)).strftime("%Y-%m-%d")
    console = page.url.partition("#")[0]
    page.goto(f"{console}#/?device={demo['device']}")
    page.click("[data-test=mode-recorded]")
    page.fill("[data-test=day]", yesterday)
    until(page, f"location.hash.endsWith('recorded={yesterday}')")
    page.wait_for_selector("[data-test=segment]", timeout=20_000)
    page.click("[data-test=play-first]")
    page.wait_for_selector("video[data-state=playing]", timeout=20_000)
    page.click("[data-test=pause]")
    page.wait_for_selector("video[data-state=paused]", timeout=10_000)
    standing = page.inner_text("[data-test=position]")
    until(page, f"decodeURIComponent(location.hash).includes('recorded={yesterday}T{standing}+08:00')")

    page.reload()
    page.wait_for_selector("video[data-state=playing]", timeout=30_000)
    assert page.input_value("[data-test=day]") == yesterday
    assert page.inner_text("[data-test=position]") >= standing

    page.goto(f"{console}#/?device={demo['device']}&recorded={yesterday}T{standing}%2B08:00&speed=2")
    until(page, "document.querySelector('[data-test=speed]')?.innerText.includes('2×')")
    page.wait_for_selector("video[data-state=playing]", timeout=20_000)
    assert "speed=2" in page.url

    page.go_back()
    page.go_back()
    until(page, "!location.hash.includes('recorded=')")
    assert page.query_selector("[data-test=day]") is None
    page.wait_for_selector("video[data-state=playing]", timeout=20_000)
