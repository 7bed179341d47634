"""What the demonstration must show: each step asserts one thing and names itself when it fails.

The pictures are judged by FFmpeg, which shares no code with the media engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tongshi.demo.client import Console
from tongshi.demo.topology import SimulatedCamera, Site, Topology
from tongshi.testing.picture import HEIGHT, WIDTH
from tongshi.testing.viewer import Watched, watch_http

FRAMES = 50
WALL, WALL_FRAMES = 9, 25
Say = Callable[[str], None]


class StepFailed(Exception):
    """One step of the check did not show what it should."""


@dataclass(slots=True)
class Check:
    """The steps, over signed-in consoles of every platform."""

    topology: Topology
    consoles: dict[str, Console]
    say: Say
    figures: dict[str, object] = field(default_factory=dict)

    async def run(self) -> None:
        """Every step in order. Raises StepFailed."""
        for name, step in (
            ("十二台摄像机在市级平台可见且在线", self.cameras_known),
            ("市级档案与各平台逐字段相等，摘要一致", self.archives_equal),
            ("经两级平台看到实时画面：UDP、TCP，H.264、H.265", self.live_pictures),
            ("九路子码流经 WebSocket 同时到达", self.wall),
            ("云台指令到达摄像机，画面随之转动", self.turn),
            ("关闭后码流、会话全部释放", self.released),
        ):
            try:
                detail = await step()
            except StepFailed as error:
                raise StepFailed(f"{name}：{error}") from error
            self.say(f"  ✓ {name}（{detail}）")

    async def cameras_known(self) -> str:
        wanted = {camera.id for camera in self.topology.cameras}
        city = self.consoles["city"]

        async def all_online() -> bool:
            found = await _devices(city)
            online = {row["DeviceID"] for row in found if row["Status"] == "ON"}
            self.figures["online"] = len(online & wanted)
            return wanted <= online

        await _until(all_online, 60, lambda: f"在线 {self.figures.get('online')} / {len(wanted)}")
        return f"{len(wanted)} 台"

    async def archives_equal(self) -> str:
        city = self.consoles["city"]

        async def equal() -> bool:
            rows = (await city.call("GET", "/api/v1/platforms"))["list"]
            self.figures["equality"] = {
                row["name"]: row["equal"] for row in rows if row["relation"] != "self"
            }
            return all(row["equal"] is True for row in rows if row["relation"] != "self")

        await _until(equal, 60, lambda: f"{self.figures.get('equality')}")
        compared = 0
        for site in self.topology.sites:
            ids = [camera.id for camera in self.topology.cameras if camera.site == site.key]
            if not ids:
                continue
            below = await _details(self.consoles[site.key], ids)
            above = await _details(city, ids)
            for code in ids:
                different = _differences(below[code], above[code])
                if different:
                    raise StepFailed(f"{code} 字段不同：{different}")
                compared += len(below[code])
        return f"{compared} 个字段"

    async def live_pictures(self) -> str:
        shown = []
        for camera, transport in self._live_cases():
            watched, answer = await self._watch(camera, transport)
            wanted = {"h264": "h264", "h265": "hevc"}[camera.codec]
            if watched.codec != wanted:
                raise StepFailed(f"{camera.name}：编码应为 {wanted}，收到 {watched.codec}")
            if len({code.counter for code in watched.codes}) < FRAMES // 2:
                raise StepFailed(f"{camera.name}：画面没有变化")
            total_ms = answer["trace"]["firstIdrMs"]
            self.figures[f"live {camera.codec} {transport}"] = total_ms
            shown.append(f"{camera.codec}/{transport} 关键帧 {total_ms:.0f} 毫秒")
        return "，".join(shown)

    async def wall(self) -> str:
        """What the console's wall asks for: sub-streams, each by a connection of its own."""
        cameras = [camera for camera in self.topology.cameras if camera.codec == "h264"][:WALL]
        loop = asyncio.get_running_loop()
        began = loop.time()
        seen = await asyncio.gather(*(self._watch_small(camera) for camera in cameras))
        took_s = loop.time() - began
        for camera, watched in zip(cameras, seen, strict=True):
            if (watched.width, watched.height) != (WIDTH // 2, HEIGHT // 2):
                raise StepFailed(f"{camera.name}：不是子码流（{watched.width}x{watched.height}）")
        self.figures["wall"] = round(took_s, 1)
        return f"{len(seen)} 路各 {WALL_FRAMES} 帧，{took_s:.1f} 秒"

    async def _watch_small(self, camera: SimulatedCamera) -> Watched:
        body = {"DeviceID": camera.id, "protocol": ["ws-flv"], "streamType": 1}
        answer = await self.consoles["city"].call("POST", "/api/v1/video/live/url", body)
        try:
            return await watch_http(answer["urls"][0]["url"], frames=WALL_FRAMES, timeout_s=30)
        finally:
            await self._close(answer)

    def _live_cases(self) -> list[tuple[SimulatedCamera, str]]:
        def one(site: str, codec: str) -> SimulatedCamera:
            return next(c for c in self.topology.cameras if c.site == site and c.codec == codec)

        return [
            (one("huangpu", "h264"), "udp"),
            (one("huangpu", "h265"), "tcp-passive"),
            (one("pudong", "h264"), "tcp-passive"),
            (one("pudong", "h265"), "udp"),
            (one("greening", "h264"), "tcp-active"),
        ]

    async def _open(self, camera: SimulatedCamera, transport: str) -> dict[str, Any]:
        body = {"DeviceID": camera.id, "protocol": ["http-flv"], "transport": transport}
        answer: dict[str, Any] = await self.consoles["city"].call("POST", "/api/v1/video/live/url", body)
        return answer

    async def _close(self, answer: dict[str, Any]) -> None:
        await self.consoles["city"].call(
            "POST", "/api/v1/video/live/stop", {"sessionId": answer["sessionId"]}
        )

    async def _watch(
        self, camera: SimulatedCamera, transport: str, frames: int = FRAMES
    ) -> tuple[Watched, dict[str, Any]]:
        answer = await self._open(camera, transport)
        try:
            watched = await watch_http(answer["urls"][0]["url"], frames=frames, timeout_s=30)
        finally:
            await self._close(answer)
        if watched.frames < frames:
            raise StepFailed(f"{camera.name}：只解出 {watched.frames} 帧")
        return watched, answer

    async def turn(self) -> str:
        camera = next(c for c in self.topology.cameras if c.site == "pudong" and c.codec == "h264")
        answer = await self._open(camera, "udp")
        watching = asyncio.create_task(watch_http(answer["urls"][0]["url"], frames=75, timeout_s=30))
        try:
            await asyncio.sleep(1.0)
            control = {"DeviceID": camera.id, "command": "right", "action": "start", "speed": 80}
            started = await self.consoles["city"].call("POST", "/api/v1/video/ptz/control", control)
            await asyncio.sleep(1.5)
            stop = {"DeviceID": camera.id, "command": "stop", "action": "stop"}
            await self.consoles["city"].call("POST", "/api/v1/video/ptz/control", stop)
            watched = await watching
        finally:
            watching.cancel()
            await self._close(answer)
        pans = [code.pan for code in watched.codes]
        if not pans or max(pans) - min(pans) < 1.0:
            raise StepFailed(f"{camera.name}：画面中的云台角度没有变化（{pans[:1]} 到 {pans[-1:]}）")
        delay_ms = started["controlDelayMs"]
        self.figures["control delay"] = delay_ms
        return f"转动 {max(pans) - min(pans):.1f} 度，应答 {delay_ms:.0f} 毫秒"

    async def released(self) -> str:
        left: dict[str, int] = {}

        async def nothing_left() -> bool:
            for site in self.topology.sites:
                streams = await self.consoles[site.key].call("GET", "/api/v1/video/streams")
                left[site.name] = len(streams["list"])
            return not any(left.values())

        await _until(nothing_left, 20, lambda: f"仍在：{left}")
        return f"{len(self.topology.sites)} 个平台均为 0"


async def _devices(console: Console) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await console.call("GET", "/api/v1/archive/devices?pageSize=200"))["list"]
    return rows


async def _details(console: Console, ids: list[str]) -> dict[str, dict[str, Any]]:
    answer = await console.call("POST", "/api/v1/archive/devices/batch-get", {"deviceIds": ids})
    found = {row["DeviceID"]: row for row in answer["list"]}
    missing = set(ids) - set(found)
    if missing:
        raise StepFailed(f"{console.url} 没有 {sorted(missing)}")
    return found


# What each level says for itself: its own versions, times, provenance and view of the status.
_OWN = {"version", "updateTime", "provenance", "Status", "issues", "online", "since", "source", "tagCodes"}


def _differences(below: dict[str, Any], above: dict[str, Any]) -> dict[str, tuple[object, object]]:
    return {
        name: (below.get(name), above.get(name))
        for name in below.keys() | above.keys()
        if name not in _OWN and below.get(name) != above.get(name)
    }


async def _until(reached: Callable[[], Awaitable[bool]], seconds: float, state: Callable[[], str]) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not await reached():
        if loop.time() > end:
            raise StepFailed(f"{seconds:.0f} 秒内未达到，{state()}")
        await asyncio.sleep(0.3)


def shown_first(topology: Topology) -> tuple[Site, SimulatedCamera]:
    """The camera worth opening first: a district's, H.264, that turns."""
    camera = next(c for c in topology.cameras if c.site == "huangpu" and c.codec == "h264")
    return topology.site("huangpu"), camera
