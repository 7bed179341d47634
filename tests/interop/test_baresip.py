"""baresip, a telephone of other people, registers as a device, is called and calls.

It is scripted over its control socket. It knows no PS and no MANSCDP: what it cannot do it must refuse and we
must name; what we do not allow must be refused by us with the right code.
"""

from __future__ import annotations

import asyncio
import json
import socket
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tongshi.errors import PeerFailed
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.sdp import parse_sdp
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.small_platform import SmallPlatform

DEVICE, SECRET = "31010100001360000301", "gb-2022"

_CONFIG = """\
sip_listen 127.0.0.1:{sip}
net_interface 127.0.0.1
module_path {modules}
module g711.so
module aufile.so
audio_source aufile,{folder}/tone.wav
audio_player aufile,{folder}/heard.wav
audio_alert aufile,{folder}/alert.wav
module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
"""
_ACCOUNT = (
    "<sip:{code}@127.0.0.1:{port};transport={transport}>;auth_user={code};auth_pass={secret};"
    "regint=3600;answermode=auto;audio_codecs=pcma\n"
)


_SOUND = """\
v=0
o={platform} 0 0 IN IP4 127.0.0.1
s=Play
c=IN IP4 127.0.0.1
t=0 0
m=audio {port} RTP/AVP 8
a=sendrecv
a=rtpmap:8 PCMA/8000
y=0310100001
f=v/////a/1/8/1
"""
_MODULES = next(iter(sorted(Path("/usr/lib").glob("**/baresip/modules"))), Path("/nowhere"))


class Telephone:
    """One baresip: events as they come, commands as they are needed."""

    def __init__(self, process: asyncio.subprocess.Process, control: int, log: Path) -> None:
        self._process, self._control, self.log = process, control, log
        self.events: list[dict[str, Any]] = []
        self._reading: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        async with asyncio.timeout(5.0):
            while True:
                try:
                    reader, self._writer = await asyncio.open_connection("127.0.0.1", self._control)
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        self._reading = asyncio.create_task(self._read(reader))

    async def command(self, command: str, params: str = "") -> None:
        text = json.dumps({"command": command, "params": params, "token": "t"}).encode()
        self._writer.write(b"%d:%s," % (len(text), text))
        await self._writer.drain()

    async def event(self, kind: str, timeout_s: float = 10.0) -> dict[str, Any]:
        """The first event of a type."""
        async with asyncio.timeout(timeout_s):
            while True:
                for event in self.events:
                    if event.get("type") == kind:
                        return event
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._writer.close()
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 5.0)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            length = await reader.readuntil(b":")
            self.events.append(json.loads(await reader.readexactly(int(length[:-1]))))
            await reader.readexactly(1)


@pytest.fixture
async def telephone(
    platform: SmallPlatform, tmp_path: Path, free_ports: Any, program: Any, secret: str
) -> AsyncIterator[Telephone]:
    """baresip with an account at the platform."""
    path = program("baresip", "baresip-core")
    folder = tmp_path / "baresip"
    folder.mkdir()
    sip, control = free_ports(), free_ports()
    config = _CONFIG.format(sip=sip, control=control, folder=folder, modules=_MODULES)
    (folder / "config").write_text(config)
    with wave.open(str(folder / "tone.wav"), "wb") as tone:
        tone.setparams((1, 2, 8_000, 0, "NONE", ""))
        tone.writeframes(bytes(2 * 8_000 * 5))
    account = _ACCOUNT.format(code=DEVICE, port=platform.gateway.port, transport="udp", secret=secret)
    (folder / "accounts").write_text(account)
    log = (folder / "log").open("wb")
    process = await asyncio.create_subprocess_exec(path, "-f", str(folder), stdout=log, stderr=log)
    log.close()
    made = Telephone(process, control, folder / "log")
    await made.connect()
    yield made
    await made.close()


@pytest.fixture
def secret(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", SECRET))


async def until(holds: Any, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110  # what is awaited happens in another process
            await asyncio.sleep(0.02)


async def test_it_registers_is_invited_and_what_it_cannot_show_is_named(
    platform: SmallPlatform, telephone: Telephone
) -> None:
    await until(lambda: DEVICE in platform.gateway.peers)
    peer = platform.gateway.peers.get(DEVICE)
    assert peer is not None
    assert peer.profile.edition.wire == "2.0"  # it says nothing of an edition
    # It answers no query, so that an administrator enters it.
    await platform.devices.merge_catalogue(
        DEVICE, [CatalogItem(device_id=DEVICE, name="电话", civil_code="310101")], is_platform=False
    )
    with pytest.raises(PeerFailed) as refusal:
        await platform.viewing.watch(platform.viewer, Wish(device_id=DeviceId(DEVICE), expire_s=5))
    assert refusal.value.code == 50201
    assert refusal.value.details["sipStatus"] == 488  # it has no such codec, and the operator is told so


async def test_a_call_for_sound_is_answered_heard_and_ended_by_us(
    platform: SmallPlatform, telephone: Telephone
) -> None:
    await until(lambda: DEVICE in platform.gateway.peers)
    peer = platform.gateway.peers.get(DEVICE)
    assert peer is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sound:
        sound.bind(("127.0.0.1", 0))
        sound.settimeout(5.0)
        offer = _SOUND.format(platform=platform.plan.id, port=sound.getsockname()[1])
        call = await platform.gateway.endpoint.invite(
            to_id=DEVICE,
            remote=peer.remote,
            sdp=offer.replace("\n", "\r\n").encode(),
            subject=f"{DEVICE}:0310100001,{platform.plan.id}:0",
        )
        answer = parse_sdp(call.answer)
        assert (answer.media, answer.port > 0) == ("audio", True)
        packet = await asyncio.to_thread(sound.recv, 2048)
        assert packet[1] & 0x7F == 8  # PCMA
        await telephone.event("CALL_ESTABLISHED")
        await call.bye()
    await telephone.event("CALL_CLOSED")


async def test_it_calls_and_is_refused_with_a_code_it_understands(
    platform: SmallPlatform, telephone: Telephone
) -> None:
    await until(lambda: DEVICE in platform.gateway.peers)
    await telephone.command("dial", f"sip:31010100001320000999@127.0.0.1:{platform.gateway.port}")
    closed = await telephone.event("CALL_CLOSED")
    assert closed["param"].startswith(("403", "404"))
    assert platform.gateway._ssrcs.in_use == 0


@pytest.mark.parametrize("secret", ["wrong"], indirect=True)
async def test_with_a_wrong_secret_it_is_told_so_and_not_registered(
    platform: SmallPlatform, telephone: Telephone
) -> None:
    await until(lambda: "403 Forbidden" in telephone.log.read_text(errors="replace"))
    assert DEVICE not in platform.gateway.peers
