"""What nobody waits for is held, told when it fails, and ended with its flow."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from structlog.testing import capture_logs

from tongshi.errors import PeerTimeout
from tongshi.gateways.signalling.background import Background


@pytest.mark.parametrize(
    ("error", "event"), [(PeerTimeout("无应答"), "background_failed"), (ValueError(), "background_crashed")]
)
async def test_a_failure_is_told_and_hurts_nobody(error: Exception, event: str) -> None:
    async def fail() -> None:
        raise error

    background = Background("test")
    with capture_logs() as told:
        await background.begin(fail())
    assert [(one["event"], one["flow"]) for one in told] == [(event, "test")]
    await asyncio.sleep(0)
    assert len(background) == 0


@pytest.mark.parametrize("has_begun", [False, True])
async def test_what_runs_ends_with_its_flow(has_begun: bool) -> None:
    background = Background("test")
    work = asyncio.sleep(60)
    task = background.begin(work)
    assert len(background) == 1
    if has_begun:
        await asyncio.sleep(0)
    await background.stop()
    assert task.cancelled()
    assert len(background) == 0
    await asyncio.sleep(0)
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED
