"""Who is in the demonstration: four platforms, their ports and secrets, and the cameras below three of them.

Ports are free ones near the usual numbers; secrets are made for each run and live in its folder only.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from tongshi.config.sections import (
    AccountSection,
    Config,
    ExchangeSection,
    HttpSection,
    LogSection,
    MediaSection,
    NeighbourSection,
    PlatformSection,
    SignallingSection,
    StorageSection,
)
from tongshi.testing.plan import CameraPlan, FleetPlan, Server

HOST = "127.0.0.1"
PRESETS = ("全景", "出入口", "道路来向", "道路去向")
ALARM_EVERY_S = 120.0
RECORDED_HOURS = 30.0  # of each camera before the start: today's recordings and yesterday's
Transport = Literal["udp", "tcp-passive", "tcp-active"]


@dataclass(frozen=True, slots=True)
class Site:
    """One platform of the demonstration."""

    key: str
    id: str
    name: str
    level: Literal["city", "district", "department"]
    civil_code: str
    http_port: int
    sip_port: int
    media_port: int
    device_prefix: str
    device_secret: str
    media_transport: Transport = "udp"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.http_port}"


@dataclass(frozen=True, slots=True)
class Link:
    """What two platforms share: the SIP password and the REST key."""

    upper: str
    lower: str
    sip_secret: str
    rest_key: str
    rest_secret: str


@dataclass(frozen=True, slots=True)
class SimulatedCamera:
    """One camera below a platform."""

    id: str
    name: str
    site: str
    codec: Literal["h264", "h265"]
    sip_transport: Literal["udp", "tcp"]
    longitude: float
    latitude: float
    scene: str


@dataclass(frozen=True, slots=True)
class Topology:
    """The whole demonstration."""

    sites: tuple[Site, ...]
    links: tuple[Link, ...]
    cameras: tuple[SimulatedCamera, ...]

    def site(self, key: str) -> Site:
        return next(site for site in self.sites if site.key == key)

    @property
    def city(self) -> Site:
        return self.site("city")


# Ports from 1024 up to which no browser connects (the Fetch standard's "bad ports").
UNBROWSED_PORTS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080}
)


def free_port(wanted: int, taken: set[int], *, is_browsed: bool = False) -> int:
    """The wanted port, or the next that is free for both UDP and TCP and, if need be, open to browsers."""
    unfit = taken | UNBROWSED_PORTS if is_browsed else taken
    for port in range(wanted, wanted + 400):
        if port not in unfit and _is_free(port):
            taken.add(port)
            return port
    raise OSError(f"no free port from {wanted}")


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True


_SITES: tuple[tuple[str, str, str, Literal["city", "district", "department"], str, Transport], ...] = (
    ("city", "31000000002000000001", "上海市视频数据资源管理平台（演示）", "city", "3100", "udp"),
    ("huangpu", "31010100002000000001", "黄浦区视频数据资源管理平台（演示）", "district", "310101", "udp"),
    (
        "pudong",
        "31011500002000000001",
        "浦东新区视频数据资源管理平台（演示）",
        "district",
        "310115",
        "tcp-passive",
    ),
    ("greening", "31000008002000000002", "市绿化市容视频监控平台（演示）", "department", "3100", "udp"),
)

_CAMERAS: dict[str, tuple[tuple[str, float, float, str], ...]] = {
    "huangpu": (
        ("人民广场地铁站1号口", 121.4737, 31.2330, "metro-hall"),
        ("南京东路步行街河南中路口", 121.4857, 31.2364, "crossing-day"),
        ("外滩观景平台陈毅广场", 121.4905, 31.2396, "riverside"),
        ("豫园九曲桥入口", 121.4921, 31.2272, "crossing-night"),
        ("打浦桥日月光中心北门", 121.4688, 31.2080, "crossing-day"),
    ),
    "pudong": (
        ("陆家嘴环路世纪大道口", 121.5017, 31.2380, "crossing-day"),
        ("世纪公园7号门", 121.5510, 31.2190, "crossing-day"),
        ("浦东机场T2出发层", 121.8083, 31.1510, "metro-hall"),
        ("张江高科地铁站", 121.5875, 31.2020, "metro-hall"),
        ("滴水湖环湖西一路", 121.9250, 30.9010, "riverside"),
    ),
    "greening": (
        ("徐汇滨江绿地管理站", 121.4590, 31.1800, "riverside"),
        ("老港生态环保基地入口", 121.8650, 31.0310, "crossing-day"),
    ),
}


def build(port_offset: int = 0) -> Topology:
    """Lay out the demonstration on free ports from 8080 and 5060 (plus the offset), with fresh secrets."""
    taken: set[int] = set()
    sites = tuple(
        Site(
            key=key,
            id=code,
            name=name,
            level=level,
            civil_code=civil,
            http_port=free_port(8080 + port_offset + 10 * number, taken, is_browsed=True),
            media_port=free_port(8081 + port_offset + 10 * number, taken, is_browsed=True),
            sip_port=free_port(5060 + port_offset + 10 * number, taken),
            device_prefix=code[:10],
            device_secret=secrets.token_hex(8),
            media_transport=transport,
        )
        for number, (key, code, name, level, civil, transport) in enumerate(_SITES)
    )
    links = tuple(
        Link("city", site.key, secrets.token_hex(8), f"{site.key}-city", secrets.token_hex(24))
        for site in sites
        if site.key != "city"
    )
    return Topology(sites, links, tuple(_cameras(sites)))


def _cameras(sites: tuple[Site, ...]) -> Iterator[SimulatedCamera]:
    for site in sites:
        for number, (name, longitude, latitude, scene) in enumerate(_CAMERAS.get(site.key, ()), 1):
            yield SimulatedCamera(
                id=f"{site.device_prefix}132{0}{number:06}",
                name=name,
                site=site.key,
                # Each district has one H.265 camera, so that both codecs pass both ways.
                codec="h265" if number == 4 else "h264",
                sip_transport="tcp" if number == 3 else "udp",
                longitude=longitude,
                latitude=latitude,
                scene=scene,
            )


def config(topology: Topology, site: Site, folder: Path) -> Config:
    """The configuration of one platform."""
    return Config(
        platform=PlatformSection(id=site.id, name=site.name, level=site.level),
        storage=StorageSection(url=f"sqlite:///{folder.resolve()}/{site.key}/tongshi.db"),
        http=HttpSection(host=HOST, port=site.http_port),
        signalling=SignallingSection(
            host=HOST,
            port=site.sip_port,
            keepalive_interval_s=5,
            registration_retry_s=2.0,
            registration_expires_s=3600,
        ),
        media=MediaSection(host=HOST, http_port=site.media_port, linger_s=2.0),
        exchange=ExchangeSection(interval_s=3.0),
        log=LogSection(level="info", form="json"),
        accounts=(AccountSection(prefix=site.device_prefix, secret=site.device_secret),),
        neighbours=tuple(_neighbours(topology, site)),
    )


def _neighbours(topology: Topology, site: Site) -> Iterator[NeighbourSection]:
    for link in topology.links:
        if site.key not in (link.upper, link.lower):
            continue
        other = topology.site(link.lower if site.key == link.upper else link.upper)
        relation: Literal["upper", "lower", "lateral"] = "upper"
        if site.key == link.upper:
            relation = "lateral" if other.level == "department" else "lower"
        yield NeighbourSection(
            id=other.id,
            name=other.name,
            relation=relation,
            sip_host=HOST,
            sip_port=other.sip_port,
            sip_username=topology.site(link.lower).id,
            sip_secret=link.sip_secret,
            rest_url=other.url,
            rest_key=link.rest_key,
            rest_secret=link.rest_secret,
            media_transport=other.media_transport,
            share=("*",) if relation == "upper" else (),
        )


def write_toml(value: msgspec.Struct, path: Path) -> None:
    """Write a structure as TOML, readable by its owner only: it carries secrets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text("\n".join(_lines(msgspec.to_builtins(value), "")) + "\n", encoding="utf-8")


def _lines(table: dict[str, object], prefix: str) -> Iterator[str]:
    later: list[tuple[str, object]] = []
    for name, value in table.items():
        if isinstance(value, dict) or (
            isinstance(value, list | tuple) and value and isinstance(value[0], dict)
        ):
            later.append((name, value))
        else:
            yield f"{name} = {msgspec.json.encode(value).decode()}"
    for name, value in later:
        if isinstance(value, dict):
            yield f"\n[{prefix}{name}]"
            yield from _lines(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            for item in value:
                yield f"\n[[{prefix}{name}]]"
                yield from _lines(item, f"{prefix}{name}.")


def fleet(topology: Topology, folder: Path) -> FleetPlan:
    """The plan of the twelve cameras, for ``tongshi simulate camera --plan``."""
    return FleetPlan(
        server=tuple(
            Server(id=site.id, host=HOST, port=site.sip_port, secret=site.device_secret)
            for site in topology.sites
            if site.key != "city"
        ),
        camera=tuple(
            CameraPlan(
                id=camera.id,
                server=topology.site(camera.site).id,
                name=camera.name,
                address=camera.name,
                civil_code=topology.site(camera.site).civil_code,
                longitude=camera.longitude,
                latitude=camera.latitude,
                scene=camera.scene,
                codec=camera.codec,
                transport=camera.sip_transport,
                recorded_hours=RECORDED_HOURS,
                presets=PRESETS,
                alarm_every_s=ALARM_EVERY_S,
                # The first camera of each platform can be heard and spoken to.
                audio=camera.id.endswith("1"),
                speaker=camera.id.endswith("1"),
            )
            for camera in topology.cameras
        ),
        clips=str(folder.resolve().parent / "clips"),
        host=HOST,
        keepalive_s=5.0,
        retry_s=2.0,
        starts_per_s=20.0,
    )
