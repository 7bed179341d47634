"""A person at the city's console exports archives, tries a bad file, imports and undoes it.

Needs Debian's Chromium; without it the test is skipped aloud.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

HEADING = "DeviceID,Name,CivilCode,Manufacturer,Model,Address,ParentID,Status,Longitude,Latitude"
CITY = "31000000002000000001"
FRESH = "31000000001310000001"


def _row(number: int, name: str, longitude: str = "121.47") -> str:
    code = f"310000000013100{number:05d}"
    return f"{code},{name},310101,通视,TS-1,人民大道{number}号,{CITY},ON,{longitude},31.23"


@pytest.fixture(scope="module")
def bad_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good row, and three that are wrong each in its way."""
    path = tmp_path_factory.mktemp("files") / "点位.csv"
    rows = [_row(1, "导入的点位"), _row(2, "经度写错", "east"), _row(3, "=1+1"), _row(1, "重复")]
    path.write_text("\n".join([HEADING, *rows]) + "\n", encoding="utf-8")
    return path


def test_an_export_is_followed_and_fetched_with_its_digest(page: Page, pictures: Path) -> None:
    page.click("a[href='#/files']")
    page.fill("[data-test=export-civil]", "31010")
    assert page.is_disabled("[data-test=export-begin]")
    page.fill("[data-test=export-civil]", "310115")
    page.click("[data-test=export-begin]")
    page.wait_for_selector("[data-test=export] [data-test=signature]")
    page.screenshot(path=pictures / "files-export.png")
    with page.expect_response("**/content*") as answer, page.expect_download() as download:
        page.click("[data-test=export] [data-test=download]")
    assert answer.value.ok, answer.value.text()
    package = download.value.path().read_bytes()
    assert hashlib.new("sm3", package).hexdigest() == page.inner_text("[data-test=digest]")
    with zipfile.ZipFile(io.BytesIO(package)) as opened:
        assert json.loads(opened.read("manifest.json"))["count"] == 5
        assert json.loads(opened.read("signature.json"))["value"] == page.inner_text("[data-test=signature]")


def test_a_dry_run_names_rows_and_columns_and_changes_nothing(
    page: Page, bad_file: Path, pictures: Path
) -> None:
    assert page.is_disabled("[data-test=dry-run]")
    page.set_input_files("[data-test=file]", bad_file)
    assert page.is_disabled("[data-test=apply]")
    page.click("[data-test=dry-run]")
    page.wait_for_selector("[data-test=import] [data-test=report]")
    found = page.inner_text("[data-test=bad-rows]")
    assert "应为数字，收到的是文字" in found
    assert page.inner_text("[data-number=inserted]") == "1"
    assert page.inner_text("[data-number=rejected]") == "3"
    assert page.query_selector("[data-test=import] [data-test=undo]") is None
    page.screenshot(path=pictures / "files-dry-run.png")
    with page.expect_download() as download:
        page.click("[data-test=download-report]")
    report = list(csv.reader(io.StringIO(download.value.path().read_text("utf-8-sig"))))
    assert [(row[1], row[2]) for row in report[1:]] == [("3", "Longitude"), ("4", "Name"), ("5", "DeviceID")]


def test_all_or_nothing_is_refused_before_it_is_tried(page: Page) -> None:
    page.check("[data-test=atomic]")
    assert page.is_disabled("[data-test=apply]")
    assert "不合格的行" in page.inner_text("[data-test=why-not]")
    page.uncheck("[data-test=atomic]")


def test_the_good_rows_get_in_and_an_undo_takes_them_back(
    page: Page, until: Callable[..., None], pictures: Path
) -> None:
    page.click("[data-test=apply]")
    page.click("[data-test=apply-confirm]")
    page.wait_for_selector("[data-test=import] [data-test=undo]")
    assert re.search(r"还可撤销 2[34] 小时", page.inner_text("[data-test=undo-left]"))
    assert _is_present(page)
    page.click("[data-test=import] [data-test=undo]")
    page.click("[data-test=undo-confirm]")
    page.wait_for_selector("[data-test=undone]")
    assert "已恢复 1 台" in page.inner_text("[data-test=undone]")
    until(page, "document.querySelector('[data-test=import] [data-state]').dataset.state === 'undone'")
    assert not _is_present(page)
    page.screenshot(path=pictures / "files-undone.png")


def test_a_file_that_is_none_fails_in_words(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "picture.csv"
    path.write_bytes(b"\x89PNG\xff\xfe\x00")
    page.set_input_files("[data-test=file]", path)
    page.click("[data-test=dry-run]")
    page.wait_for_selector("[data-test=import] [data-test=job-error]")
    assert "既不是 UTF-8 也不是 GB 18030" in page.inner_text("[data-test=import] [data-test=job-error]")


def test_a_job_is_found_again_after_a_reload(page: Page, until: Callable[..., None], pictures: Path) -> None:
    page.reload()
    page.wait_for_selector("[data-test=jobs] .el-table__row")
    until(page, "document.querySelectorAll('[data-test=jobs] .el-table__row').length >= 4")
    assert "已撤销" in page.inner_text("[data-test=jobs]")
    page.click("[data-test=jobs] .el-table__row:has-text('导出')")
    page.wait_for_selector(".el-drawer [data-test=digest]")
    page.wait_for_timeout(400)
    page.screenshot(path=pictures / "files-job.png")
    page.reload()
    page.wait_for_selector(".el-drawer [data-test=digest]")
    page.go_back()
    page.wait_for_selector(".el-drawer [data-test=digest]", state="hidden")


def _is_present(page: Page) -> bool:
    """Is the new device in the record, and not missing?"""
    script = f"fetch('/api/v1/archive/devices?owner={CITY}').then((answer) => answer.json())"
    rows = page.evaluate(script)["data"]["list"]
    return FRESH in {row["DeviceID"] for row in rows}
