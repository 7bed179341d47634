"""A process for sound that misbehaves is ended, and says why."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tongshi.gateways.media.transcoder import process, sound
from tongshi.gateways.media.transcoder.pipe import SOUND_HEAD
from tongshi.gateways.media.transcoder.sound import SoundJob


async def job_of(monkeypatch: pytest.MonkeyPatch, program: str) -> tuple[SoundJob, list[str]]:
    async def start(arguments: tuple[str, ...], stdin: int, stdout: int) -> asyncio.subprocess.Process:
        assert arguments == ("sound", "16000")
        return await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", program, stdin=stdin, stdout=stdout, stderr=asyncio.subprocess.PIPE
        )

    monkeypatch.setattr(process, "start_worker", start)
    told: list[str] = []
    job = SoundJob(
        lambda work: told.append("given back"), lambda: told.append("failed"), lambda at, frame: None
    )
    await job.begin()
    return job, told


async def ended(job: SoundJob) -> str:
    async with asyncio.timeout(15):
        await job.ended.wait()
    await job.end()
    return job.reason


@pytest.mark.parametrize(("at", "size"), [(0, 0), (0, 8_193), (-1, 9)])
async def test_what_is_no_sound_is_not_taken(monkeypatch: pytest.MonkeyPatch, at: int, size: int) -> None:
    head = SOUND_HEAD.pack(at, size)
    program = f"import os, time; os.write(1, {head!r} + bytes(9)); time.sleep(60)"
    job, told = await job_of(monkeypatch, program)
    assert await ended(job) == "what the process wrote is no sound"
    assert told == ["failed", "given back"]


async def test_one_that_does_not_read_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "MAX_BEHIND_BYTES", 1_000)
    job, _ = await job_of(monkeypatch, "import time; time.sleep(60)")
    job.feed(bytes(1 << 20))
    assert await ended(job) == "the process does not read"
    job.feed(b"nothing happens")


async def test_one_that_was_told_the_end_ends_without_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    job, told = await job_of(monkeypatch, "import os\nwhile os.read(0, 4096): pass")
    job.feed(b"sound")
    job.finish()
    assert await ended(job) == ""
    assert told == ["given back"]
