"""A person at the console sees where each field came from, edits a record, reads its history, puts it back.

A platform of its own: the demonstration must stay as it is. Needs Debian's Chromium; without it the test is
skipped aloud.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tongshi.resources.devices import store as devices
from tongshi.testing.rest_platform import sample_archives
from tongshi.testing.served import Served, served_config

HOME, BELOW = "31010400002000000001", "31010600002000000001"
OURS, THEIRS = "31010400001310000001", "31010600001310000001"


SignedIn = Callable[..., AbstractContextManager[Page]]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, signed_in: SignedIn) -> Iterator[Page]:
    """A console signed in to a platform with archives of its own and of another."""

    async def furnish(made: Served, stack: AsyncExitStack) -> None:
        platform = made.platform
        for owner in (HOME, BELOW):
            rows = sample_archives(owner, 3)
            await platform.database.write(devices.upsert_many, rows, owner, platform.clock.at())

    settings = served_config(tmp_path_factory.mktemp("served"), HOME, "徐汇测试平台")
    with Served(settings, furnish) as served, signed_in(served.url) as page:
        yield page


def _open(page: Page, device_id: str) -> None:
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-test=device]", state="hidden")
    page.goto(page.url.partition("#")[0] + "#/archive")
    page.click(f"[data-test=archive] [data-device='{device_id}']")
    page.wait_for_selector("[data-test=device]")


def _version(page: Page, until: Callable[..., None], number: int) -> None:
    until(page, f"document.querySelector('[data-test=version]')?.innerText === '{number}'")


def test_each_field_says_where_it_came_from(page: Page, pictures: Path) -> None:
    _open(page, OURS)
    assert page.query_selector("[data-test=origin]") is None
    page.click("[data-test=origins]")
    page.wait_for_selector("[data-test=origin]")
    assert "人工录入 · 版本 1" in page.inner_text("[data-test=device]")
    page.click("[data-test=show-history]")
    page.wait_for_selector("[data-test=history-empty]")
    pictures.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=pictures / "record-origins.png")


def test_a_wrong_value_is_refused_beside_its_field(page: Page, until: Callable[..., None]) -> None:
    page.click("[data-test=edit]")
    page.fill("input[name=Longitude]", "东经")
    page.click("[data-test=edit-preview-button]")
    until(page, "document.querySelector('[data-fault=Longitude]')?.innerText === '此项应为数字'")
    page.fill("input[name=Longitude]", "500")
    page.click("[data-test=edit-preview-button]")
    until(page, "document.querySelector('[data-fault=Longitude]')?.innerText.includes('不得大于 180')")


def test_an_edit_shows_its_difference_before_it_is_saved(
    page: Page, until: Callable[..., None], pictures: Path
) -> None:
    page.fill("input[name=Longitude]", "121.4001")
    page.fill("input[name=Name]", "外滩观景台")
    page.click("[data-field='ext.LWSX']")
    page.click(".el-select-dropdown__item:visible:has-text('已联网')")
    page.wait_for_timeout(400)
    page.screenshot(path=pictures / "record-form.png")
    page.click("[data-test=edit-preview-button]")
    page.wait_for_selector("[data-test=edit-preview]")
    assert "已联网" in page.inner_text("[data-test=edit-preview]")
    page.wait_for_timeout(400)
    page.screenshot(path=pictures / "record-edit.png")
    page.click("[data-test=edit-save]")
    _version(page, until, 2)
    page.wait_for_selector("[data-test=history] [data-number='1']")
    assert "外滩观景台" in page.inner_text("[data-test=history]")
    assert "admin" in page.inner_text("[data-test=history]")


def test_an_undo_shows_its_difference_and_puts_the_record_back(
    page: Page, until: Callable[..., None], pictures: Path
) -> None:
    page.click("[data-number='1'] [data-test=undo]")
    page.wait_for_selector(".el-dialog [data-test=differences]")
    page.wait_for_timeout(400)
    page.screenshot(path=pictures / "record-undo.png")
    page.click("[data-test=undo-confirm]")
    _version(page, until, 3)
    page.wait_for_selector("[data-test=history] [data-number='2']")
    assert "路口1号摄像机" in page.inner_text(".el-drawer__header")
    page.wait_for_timeout(400)
    page.screenshot(path=pictures / "record-history.png")


def test_the_record_of_another_platform_is_not_edited(page: Page) -> None:
    _open(page, THEIRS)
    assert page.query_selector("[data-test=edit]") is None
    assert "只有其所属平台可以修改" in page.inner_text("[data-test=device]")
