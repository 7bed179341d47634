"""A person at the city's console looks a service up, and its administrator withdraws and publishes it.

Needs Debian's Chromium; without it the test is skipped aloud.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, Route

STATE = "document.querySelector('[data-test=service-state-now]')?.innerText === '{}'"


def _choose(page: Page, select: str, option: str) -> None:
    page.click(f"[data-test={select}]")
    page.click(f".el-select-dropdown__item:visible:has-text('{option}')")


def test_services_are_searched_and_filtered_by_state(
    page: Page, until: Callable[..., None], pictures: Path
) -> None:
    page.click("a[href='#/services']")
    page.wait_for_selector("[data-test=services] .el-table__row")
    whole = int(page.get_attribute("[data-test=service-count]", "data-total") or 0)
    assert whole > 100
    page.screenshot(path=pictures / "services.png")
    page.fill("[data-test=service-search]", "框选")
    until(page, "document.querySelectorAll('[data-test=services] .el-table__row').length === 1")
    assert "E.1-1" in page.inner_text("[data-test=services]")
    page.fill("[data-test=service-search]", "没有这样的服务")
    until(page, "document.body.innerText.includes('没有符合条件的服务')")
    page.click("button:has-text('清除条件')")
    _choose(page, "service-state", "尚未建设")
    until(page, f"Number(document.querySelector('[data-test=service-count]').dataset.total) < {whole}")
    assert "运行中" not in page.inner_text("[data-test=services]")
    page.click("button:has-text('清除条件')")
    until(page, f"Number(document.querySelector('[data-test=service-count]').dataset.total) === {whole}")


def test_a_service_says_what_it_is_and_how_to_apply(page: Page, pictures: Path) -> None:
    page.fill("[data-test=service-search]", "areaQueryDevices")
    page.click("[data-service=areaQueryDevices]")
    page.wait_for_selector("[data-test=service]")
    shown = page.inner_text("[data-test=service]")
    for words in (
        "POST /api/v1/archive/devices/area-query",
        "查阅档案（archive:read）",
        "书面申请",
        "您现在可以调用",
    ):
        assert words in shown
    assert "service=areaQueryDevices" in page.url
    page.wait_for_timeout(400)
    page.screenshot(path=pictures / "service.png")


def test_withdrawing_asks_for_a_reason_and_publishing_takes_it_back(
    page: Page, until: Callable[..., None]
) -> None:
    page.click("[data-test=withdraw]")
    page.fill("[name=reason]", "演练：停止发布")
    page.click("[data-test=reason-confirm]")
    until(page, STATE.format("已停止"))
    assert "演练：停止发布" in page.inner_text("[data-test=service]")
    page.click("[data-test=publish]")
    page.fill("[name=reason]", "演练结束")
    page.click("[data-test=reason-confirm]")
    until(page, STATE.format("运行中"))
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-test=service]", state="hidden")


def test_a_service_of_others_is_registered(page: Page, until: Callable[..., None]) -> None:
    page.click("button:has-text('清除条件')")
    page.click("[data-test=register]")
    page.fill("[name=code]", "weather")
    assert page.is_disabled("[data-test=service-save]")
    for name, value in (
        ("code", "ext-weather"),
        ("name", "市气象局实况"),
        ("owner", "市气象局"),
        ("address", "https://weather.example/live"),
    ):
        page.fill(f"[name={name}]", value)
    page.click("[data-test=service-save]")
    page.fill("[data-test=service-search]", "气象")
    until(page, "document.querySelectorAll('[data-test=services] .el-table__row').length === 1")
    page.click("[data-service=ext-weather]")
    page.wait_for_selector("[data-test=service]")
    assert "https://weather.example/live" in page.inner_text("[data-test=service]")
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-test=service]", state="hidden")


def test_an_error_names_the_way_out_and_the_request(page: Page, pictures: Path) -> None:
    trouble = {"code": 50000, "msg": "平台内部错误", "data": {}, "requestId": "7f3c2a90d1b84a6f"}
    page.route("**/api/v1/services?*", lambda route: route.fulfill(status=500, json=trouble))
    page.reload()
    page.wait_for_selector("[data-test=problem]")
    shown = page.inner_text("[data-test=problem]")
    assert "平台内部错误" in shown
    assert "7f3c2a90d1b84a6f" in shown
    assert "告诉管理员" in shown
    assert page.query_selector("[data-test=services]") is None, "what is not known is not an empty list"
    page.screenshot(path=pictures / "services-error.png")
    page.unroute("**/api/v1/services?*")
    page.click("[data-test=problem] button")
    page.wait_for_selector("[data-test=services] .el-table__row")


def test_a_page_that_one_may_not_use_is_neither_offered_nor_opened(
    page: Page, until: Callable[..., None], pictures: Path
) -> None:
    def with_less(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        body["data"]["permissions"] = ["archive:read", "platform:read"]
        route.fulfill(response=answer, json=body)

    page.route("**/api/v1/session", with_less)
    page.reload()
    until(page, "document.querySelector('nav')?.innerText.includes('资源档案')")
    assert page.locator("nav a").all_inner_texts() == [
        "目录树",
        "资源档案",
        "地图框选",
        "服务目录",
        "级联与共享",
    ]
    assert page.locator("nav p").all_inner_texts() == ["资源", "互联"]
    page.wait_for_selector("[data-test=services]")
    page.evaluate("location.hash = '#/files'")
    page.wait_for_selector("[data-test=no-access]")
    assert "导出档案 或 修改档案" in page.inner_text("[data-test=no-access]")
    page.screenshot(path=pictures / "no-access.png")
    page.evaluate("location.hash = '#/'")
    page.wait_for_selector("[data-test=tree]")
    page.unroute("**/api/v1/session")
    page.evaluate("location.hash = '#/services'")
    page.reload()
    page.wait_for_selector("[data-test=services] .el-table__row")


def test_the_directory_speaks_english_too(page: Page, pictures: Path) -> None:
    page.click("[data-test=language]")
    assert page.inner_text("h2") == "Services"
    page.screenshot(path=pictures / "services-english.png")
    page.click("[data-test=language]")
