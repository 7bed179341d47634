"""A person at the city's console finds a camera in the trees, reads its archive and watches it.

Needs Debian's Chromium; without it the test is skipped aloud.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page

DISTRICT = "31010100002000000001"
CAMERA = "31010100001320000001"
ROWS = "document.querySelectorAll('[data-test=branch-devices] .el-table__row').length === {}"


def test_divisions_open_branch_by_branch_with_their_counts(
    page: Page, until: Callable[..., None], pictures: Path
) -> None:
    page.click("a[href='#/trees']")
    for branch in ("31", "3101"):
        page.click(f"[data-branch='{branch}']")
    page.wait_for_selector("[data-branch='310101']")
    assert "5/5" in page.inner_text("[data-branch='310101']")
    page.click("[data-branch='310101']")
    until(page, ROWS.format(5))
    assert "黄浦区" in page.inner_text("[data-test=branch]")
    assert "设备 5 台" in page.inner_text("[data-test=branch-counts]")
    page.screenshot(path=pictures / "trees.png")


def test_a_division_holds_what_lies_below_it(page: Page, until: Callable[..., None]) -> None:
    page.click("[data-branch='3101']")
    until(page, ROWS.format(10))
    page.go_back()
    until(page, ROWS.format(5))
    until(page, "document.querySelector('[data-test=branch]').innerText === '黄浦区'")


def test_an_address_leads_back_to_the_branch(page: Page, until: Callable[..., None]) -> None:
    assert page.url.endswith("#/trees?at=31.3101.310101")
    page.reload()
    until(page, ROWS.format(5))
    page.wait_for_selector(".el-tree-node.is-current [data-branch='310101']")
    until(page, "document.querySelector('[data-test=branch-counts]')?.innerText.includes('设备 5 台')")


def test_who_belongs_nowhere_is_shown_and_told(
    page: Page, until: Callable[..., None], pictures: Path
) -> None:
    page.click("[data-test=tree-kind] >> text=业务分组")
    page.click("[data-branch=unassigned]")
    until(page, ROWS.format(12))
    assert "没有说明所属的业务分组" in page.inner_text("section")
    page.screenshot(path=pictures / "trees-unassigned.png")


def test_a_device_of_a_platform_is_read_and_watched(
    page: Page, until: Callable[..., None], pictures: Path
) -> None:
    page.click("[data-test=tree-kind] >> text=平台")
    page.click(f"[data-branch='{DISTRICT}']")
    page.click(f"[data-device='{CAMERA}']")
    page.wait_for_selector("[data-test=device]")
    assert f"device={CAMERA}" in page.url
    page.wait_for_timeout(400)
    page.screenshot(path=pictures / "trees-device.png")
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-test=device]", state="hidden")
    page.click(f"[data-view='{CAMERA}']")
    page.wait_for_selector("video[data-state=playing]", timeout=20_000)
    assert page.url.endswith(f"#/?device={CAMERA}")


def test_the_keyboard_reaches_a_branch(page: Page, until: Callable[..., None]) -> None:
    page.click("a[href='#/trees']")
    page.wait_for_selector("[data-branch='31']")
    page.locator("[data-test=tree] [role=treeitem]").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-branch='3101']")
    until(page, ROWS.format(12))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("[data-branch='310101']")
    until(page, "document.querySelector('[data-test=branch]').innerText === '市辖区'")
