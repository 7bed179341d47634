"""A person at the city's console draws a rectangle on the map and finds what is in it.

Needs Debian's Chromium; without it the test is skipped aloud.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, Route

AIRPORT = "31011500001320000003"
TOTAL = "document.querySelector('[data-test=map-total]')?.dataset.total === '{}'"


def test_a_rectangle_drawn_on_the_map_lists_what_is_in_it(
    page: Page, until: Callable[..., None], pictures: Path
) -> None:
    page.click("a[href='#/map']")
    until(page, TOTAL.format(12))
    page.wait_for_selector("canvas.maplibregl-canvas")
    page.wait_for_timeout(1_500)  # the camera comes to rest
    page.screenshot(path=pictures / "map.png")
    page.click("[data-test=draw]")
    frame = page.locator("[data-test=map]").bounding_box()
    assert frame is not None
    # The airport lies east of the middle and above it, alone.
    page.mouse.move(frame["x"] + frame["width"] * 0.55, frame["y"] + frame["height"] * 0.15)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * 0.75, frame["y"] + frame["height"] * 0.45, steps=4)
    page.mouse.up()
    until(page, TOTAL.format(1))
    assert page.query_selector(f"[data-test=map-list] [data-device='{AIRPORT}']") is not None
    page.wait_for_timeout(600)
    page.screenshot(path=pictures / "map-box.png")


def test_an_address_leads_back_to_the_rectangle(page: Page, until: Callable[..., None]) -> None:
    assert "box=" in page.url
    page.reload()
    until(page, TOTAL.format(1))
    page.click("[data-test=clear-box]")
    until(page, TOTAL.format(12))


def test_too_many_to_list_are_shown_as_clusters(
    page: Page, until: Callable[..., None], pictures: Path
) -> None:
    def few(route: Route) -> None:
        asked = route.request.post_data_json
        assert asked is not None
        route.continue_(post_data=asked | {"limit": 3})

    page.route("**/area-query", few)
    page.fill("[data-test=map-search]", "31")
    page.wait_for_selector("[data-test=clustered]")
    page.wait_for_selector(".cluster")
    counts = [int(text) for text in page.locator(".cluster").all_inner_texts()]
    assert sum(counts) == 12
    assert len(counts) > 3, "one number for a whole city says nothing"
    page.wait_for_timeout(600)
    page.screenshot(path=pictures / "map-clusters.png")
    page.unroute("**/area-query")
    page.locator(".cluster").nth(counts.index(max(counts))).click()
    until(page, TOTAL.format(max(counts)))
