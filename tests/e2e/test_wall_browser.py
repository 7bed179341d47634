"""A person at the city's console fills a wall with nine live pictures and plays a recording below it.

Needs Debian's Chromium; without it the test is skipped aloud.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page

PLAYING = "document.querySelectorAll('[data-test=wall] [data-state=playing]').length === {}"
CELL = "[data-test=wall] [data-cell='{}']"
SUM = """() => [...document.querySelectorAll('[data-test=wall] [data-state=playing] video')].reduce(
    (sum, video) => {
        const quality = video.getVideoPlaybackQuality()
        return [sum[0] + quality.totalVideoFrames, sum[1] + quality.droppedVideoFrames]
    }, [0, 0])"""
Until = Callable[..., None]


def test_one_click_fills_the_wall_with_nine_live_pictures(page: Page, until: Until, pictures: Path) -> None:
    page.click("a[href='#/wall']")
    page.wait_for_selector("[data-test=wall]")  # the page before has a list of devices too
    page.wait_for_selector("[data-test=devices] li")
    # One by one, without those of H.265: coding anew takes its own time.
    for row in page.query_selector_all("[data-test=devices] [data-device]"):
        code = row.get_attribute("data-device") or ""
        if not code.endswith("4"):
            row.click()
        if page.locator("[data-test=wall] [data-device-id]").count() == 9:
            break
    until(page, PLAYING.format(9), 40)
    before = page.evaluate(SUM)
    page.wait_for_timeout(3_000)
    total, dropped = (now - then for now, then in zip(page.evaluate(SUM), before, strict=True))
    assert total > 9 * 20, f"{total} frames of nine pictures in three seconds"
    assert dropped < total * 0.2, f"{dropped} of {total} frames were not shown"
    assert page.locator("[data-test=cell-stream]:has-text('子码流')").count() == 9
    page.screenshot(path=pictures / "wall.png")


def test_a_recording_plays_below_the_nine_pictures(page: Page, until: Until, pictures: Path) -> None:
    page.click(CELL.format(1) + " [data-test=cell-name]")
    page.click("[data-test=recording]")
    page.wait_for_selector("[data-test=strip] [data-test=segment]", timeout=20_000)
    page.click("[data-test=strip] [data-test=play-first]")
    page.wait_for_selector("[data-test=strip] video[data-state=playing]", timeout=20_000)
    page.click("[data-test=strip] [data-test=speed]")
    page.click(".el-select-dropdown__item:visible:has-text('4×')")
    page.wait_for_timeout(2_500)
    assert page.locator("[data-test=strip] [data-test=notice]").count() == 0
    page.screenshot(path=pictures / "wall-recording.png")
    page.click("[data-test=strip] [data-test=pause]")
    page.wait_for_selector("[data-test=strip] video[data-state=paused]", timeout=10_000)
    at = page.evaluate("document.querySelector('[data-test=strip] video').currentTime")
    page.click("[data-test=strip] [data-test=frame-back]")
    until(page, f"document.querySelector('[data-test=strip] video').currentTime < {at}")
    # On past the last picture that the browser holds: the recorder is led on a picture at a time.
    until(
        page,
        f"""(document.querySelector('[data-test=strip] [data-test=frame-on]').click(),
        document.querySelector('[data-test=strip] video').currentTime > {at} + 1)""",
        30,
    )
    assert page.locator("[data-test=strip] video[data-state=paused]").count() == 1
    until(page, PLAYING.format(9))
    page.click("[data-test=recording]")


def test_the_wall_is_as_it_was_after_a_reload_and_smaller_by_choice(page: Page, until: Until) -> None:
    first = page.get_attribute(CELL.format(1), "data-device-id")
    page.reload()
    until(page, PLAYING.format(9), 40)
    assert page.get_attribute(CELL.format(1), "data-device-id") == first
    page.click("[data-test=size-4]")
    until(page, PLAYING.format(4))
    assert page.locator("[data-test=wall] [data-cell]").count() == 4
    until(page, "document.querySelectorAll('[data-test=cell-stream]')[0].innerText === '主码流'")


def test_the_keyboard_moves_among_cells_and_takes_a_picture_down(page: Page) -> None:
    page.focus(CELL.format(1))
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.cell") == "2"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Delete")
    page.wait_for_selector(CELL.format(4) + "[data-state=empty]")
    assert "点选左侧摄像机" in page.inner_text(CELL.format(4))


def test_a_cell_without_a_picture_says_why(page: Page, pictures: Path) -> None:
    # A wall of an earlier day: one of its cameras is no longer there, or no longer for this person.
    page.evaluate(
        """() => localStorage.setItem('tongshi.wall', JSON.stringify(
            {size: 4, cells: [{deviceId: '31010100001320009999', stream: 'auto'}]}))"""
    )
    page.reload()
    page.wait_for_selector(CELL.format(1) + "[data-state=failed]", timeout=20_000)
    assert "40401" in page.inner_text(CELL.format(1) + " [data-test=cell-reason]")
    page.screenshot(path=pictures / "wall-reason.png")


def test_a_branch_of_the_tree_fills_the_wall(page: Page, until: Until) -> None:
    page.click("[data-test=clear]")
    page.click("[data-test=source-tree]")
    page.click("[data-branch='31']")
    page.wait_for_selector("[data-test=branch-list] li")
    page.click("[data-test=fill]")
    until(page, "document.querySelectorAll('[data-test=wall] [data-device-id]').length === 4")
    page.click("[data-test=clear]")
    until(page, "document.querySelectorAll('[data-test=wall] [data-state=empty]').length === 4")
