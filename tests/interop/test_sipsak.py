"""sipsak asks who is there, without being registered."""

from __future__ import annotations

import asyncio
from typing import Any

from tongshi.testing.small_platform import SmallPlatform


async def sipsak(program: Any, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        program("sipsak", "sipsak"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 20.0)
    return process.returncode or 0, output.decode(errors="replace")


async def test_options_tell_what_is_allowed(platform: SmallPlatform, program: Any) -> None:
    uri = f"sip:{platform.plan.id}@127.0.0.1:{platform.gateway.port}"
    status, output = await sipsak(program, "-vvv", "-s", uri)
    assert status == 0, output
    assert "200 OK" in output
    for method in ("INVITE", "ACK", "INFO", "CANCEL", "BYE", "OPTIONS", "MESSAGE"):
        assert method in output
