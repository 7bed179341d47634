"""``tongshi media-node``: an engine with its viewers' listener, at the command of a platform elsewhere.

Implements: DB31DSJ/Z 001-2024 5.2
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
import uvloop

from tongshi import _media
from tongshi.app import ports
from tongshi.clock import SystemClock
from tongshi.config.media_node import NodeConfig
from tongshi.config.sections import is_loopback, read, reveal
from tongshi.errors import InvalidRequest
from tongshi.gateways.certificates import OwnCertificate
from tongshi.gateways.media.digest import check_build
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.gateways.media.nodes.remote.control import Control
from tongshi.gateways.media.nodes.remote.door import NodeDoor
from tongshi.gateways.media.nodes.remote.seal import Seal
from tongshi.gateways.media.nodes.remote.station import Station
from tongshi.gateways.media.rtsp_ports import PortRange
from tongshi.gateways.media.rtsp_server import RtspServer
from tongshi.gateways.media.viewer_server import ViewerServer
from tongshi.observe import collector, logs

log = structlog.get_logger(__name__)

MIN_SECRET = 16


def run(path: Path) -> int:
    """0 after an ordered stop, 1 when it could not start."""
    config = read(path, NodeConfig)
    logs.configure(config.log.level, config.log.form)
    check_build(_media.SOURCE_DIGEST)
    return uvloop.run(_serve(config))


async def _serve(config: NodeConfig) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with AsyncExitStack() as stack:
            await _start(config, stack)
            collector.settle()
            await stop.wait()
    except OSError as error:
        words = ports.why_not(config, error)
        log.error("start_failed", error=words)
        print(f"tongshi: 无法启动：{words}", file=sys.stderr)
        return 1
    log.info("media_node_stopped", node=config.node.name)
    return 0


async def _start(config: NodeConfig, stack: AsyncExitStack) -> None:
    section, media, clock = config.node, config.media, SystemClock()
    secret = reveal(section.secret)
    if len(secret) < MIN_SECRET:
        raise InvalidRequest(f"node.secret 至少 {MIN_SECRET} 个字符", field="node.secret")
    engine = AsyncEngine(
        _media.Engine(
            threads=media.threads,
            webrtc_host=media.host,
            webrtc_port=media.webrtc_port,
            webrtc_public=media.webrtc_host,
        ),
        media.host,
        shared_port=media.rtp_shared_port,
    )
    engine.start()
    stack.push_async_callback(engine.stop)
    station = Station(engine, clock, section.gone_s)
    door = NodeDoor(station)
    viewers = ViewerServer(door, media.host, media.http_port, clock)
    stack.push_async_callback(viewers.stop)
    await viewers.start()
    rtsp = (
        RtspServer(door, engine, media.host, media.rtsp_port, PortRange(*media.rtsp_udp_ports))
        if media.rtsp_port
        else None
    )
    if rtsp is not None:
        stack.push_async_callback(rtsp.stop)
        await rtsp.start()
    seal = Seal(section.platform, secret, section.name, clock)
    certificate = (
        OwnCertificate(section.certificate, section.key, clock, "node.certificate")
        if section.certificate
        else None
    )
    if certificate is None and not is_loopback(section.host):
        log.warning("media_node_control_unencrypted", host=section.host, reason="allow_plain_http is set")
    control = Control(station, door, seal, section.host, section.port, certificate)
    stack.push_async_callback(control.stop)
    stack.push_async_callback(station.stop)
    station.start()
    await control.start()
    log.info(
        "media_node_started",
        node=section.name,
        control=f"{section.host}:{control.port}",
        is_encrypted=certificate is not None,
        viewers=f"{media.host}:{viewers.port}",
        rtsp=f"{media.host}:{rtsp.port}" if rtsp is not None else "",
    )
