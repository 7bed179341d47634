"""A voice from the browser to the loudspeaker, over one level and two: the tone sent is the tone heard."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import pytest

from tongshi.errors import Conflict, NotFound, PeerFailed, PeerTimeout, TongshiError, Unprocessable
from tongshi.gateways.signalling.broadcast import Waits
from tongshi.ids import DeviceId
from tongshi.resources.platforms.model import Relation
from tongshi.resources.viewing.ports import Viewer
from tongshi.resources.viewing.voice import Mode, VoiceWish
from tongshi.sharing import store as sharing_store
from tongshi.sharing.model import Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.testing.loudspeaker import Habits
from tongshi.testing.microphone import Microphone, tone
from tongshi.testing.plan import CameraPlan
from tongshi.testing.small_platform import HOST, Neighbour, PlatformPlan, SmallPlatform

CITY, DISTRICT, SECRET = "31000000002000000001", "31010100002000000001", "cascade-secret"
CODE, OUTPUT, SECOND = "31010100001320000001", "31010100001370000001", "31010100001370001001"

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


async def speaker_at(neighbourhood: Neighbourhood, platform: SmallPlatform, **values: Any) -> Any:
    row = CameraPlan(id=CODE, civil_code="310101", **{"voice_outputs": 1, **values})
    camera = await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, OUTPUT)
    return camera


def wish(device_id: str = OUTPUT, mode: Mode = Mode.BROADCAST, **values: Any) -> VoiceWish:
    return VoiceWish(DeviceId(device_id), mode, **values)


async def say(platform: SmallPlatform, hz: float, **values: Any) -> str:
    """Open a session, speak a tone for half a second, and return the session's number."""
    opening = await platform.voice.start(platform.viewer, wish(**values))
    microphone = await Microphone.open(opening.uplink_url)
    assert microphone.status == 101
    await microphone.speak(tone(hz, 0.5))
    await asyncio.sleep(0.2)
    await microphone.close()
    return opening.session_id


async def test_the_tone_that_is_sent_is_the_tone_that_is_heard(neighbourhood: Neighbourhood) -> None:
    district = await neighbourhood.platform(PlatformPlan(DISTRICT))
    camera = await speaker_at(neighbourhood, district)
    await say(district, 1_000.0)
    await neighbourhood.nothing_left(district)
    hearing = camera.loudspeaker.hearings[OUTPUT]
    assert abs(hearing.tone_hz() - 1_000.0) < 15.0
    packets = hearing.packets
    # C.2.4: A-law is payload type 8, twenty milliseconds a packet, one step of the clock each.
    assert {(one.payload_type, len(one.payload)) for one in packets} == {(8, 160)}
    assert len({one.ssrc for one in packets}) == 1
    steps = {(b.rtp_ts - a.rtp_ts) % 2**32 for a, b in itertools.pairwise(packets)}
    assert steps == {160}
    assert len(hearing.spoken) >= 20
    await neighbourhood.until(lambda: not camera.loudspeaker.calls)  # our BYE reached it


async def test_the_tone_travels_through_both_levels(neighbourhood: Neighbourhood) -> None:
    below = Neighbour(DISTRICT, Relation.LOWER, SECRET)
    city = await neighbourhood.platform(PlatformPlan(CITY, "市级平台", "3100", neighbours=(below,)))
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=city.gateway.port)
    district = await neighbourhood.platform(PlatformPlan(DISTRICT, "区级平台", neighbours=(above,)))
    await neighbourhood.until(lambda: DISTRICT in city.gateway.peers)
    camera = await speaker_at(neighbourhood, district)
    await neighbourhood.catalogue(city, DISTRICT)
    await neighbourhood.known(city, OUTPUT)
    output = await city.devices.get(OUTPUT)
    assert output.item.parent_ids == (CODE,)  # the loudspeaker hangs below its camera (9.12.1.1)
    opening = await city.voice.start(city.viewer, wish())
    assert list(district.voice.talkers) == [OUTPUT]
    with pytest.raises(Conflict) as held:  # one talker a device, whichever level it is at
        await district.voice.start(district.viewer, wish())
    assert held.value.code == 40903
    microphone = await Microphone.open(opening.uplink_url)
    await microphone.speak(tone(700.0, 0.6))
    await asyncio.sleep(0.3)
    await microphone.close()
    await neighbourhood.nothing_left(city, district)
    assert abs(camera.loudspeaker.hearings[OUTPUT].tone_hz() - 700.0) < 15.0


async def test_a_main_device_addresses_all_its_outputs(neighbourhood: Neighbourhood) -> None:
    district = await neighbourhood.platform(PlatformPlan(DISTRICT))
    camera = await speaker_at(neighbourhood, district, voice_outputs=2)
    opening = await district.voice.start(district.viewer, wish(CODE))
    await neighbourhood.until(lambda: len(camera.loudspeaker.calls) == 2)
    microphone = await Microphone.open(opening.uplink_url)
    await microphone.speak(tone(440.0, 0.5))
    await asyncio.sleep(0.2)
    closing = await district.voice.stop(district.viewer, opening.session_id)
    assert closing.closed
    assert not (await district.voice.stop(district.viewer, opening.session_id)).closed
    assert (await microphone.received())[:1] == b"\x88"
    await microphone.close()
    for output in (OUTPUT, SECOND):
        assert abs(camera.loudspeaker.hearings[output].tone_hz() - 440.0) < 15.0
    await neighbourhood.nothing_left(district)


@pytest.mark.parametrize(
    "habits",
    [
        Habits(skips_response=True),
        Habits(calls_platform=True),
        Habits(payload_types=(96, 8)),
        Habits(payload_types=(0,)),
    ],
)
async def test_odd_loudspeakers_hear_the_same(neighbourhood: Neighbourhood, habits: Habits) -> None:
    district = await neighbourhood.platform(PlatformPlan(DISTRICT))
    camera = await speaker_at(neighbourhood, district)
    camera.loudspeaker.habits = habits
    await say(district, 600.0)
    await neighbourhood.nothing_left(district)
    hearing = camera.loudspeaker.hearings[OUTPUT]
    assert abs(hearing.tone_hz() - 600.0) < 15.0
    assert {one.payload_type for one in hearing.packets} == {0 if habits.payload_types == (0,) else 8}


@pytest.mark.parametrize(
    ("habits", "kind", "code"),
    [
        (Habits(refuses=True), PeerFailed, 50201),
        (Habits(is_mute=True, skips_response=True), PeerTimeout, 50401),
        (Habits(is_mute=True), PeerTimeout, 50402),
        (Habits(payload_types=(96,)), PeerFailed, 50201),
    ],
)
async def test_each_failure_says_what_it_is_and_leaves_nothing(
    neighbourhood: Neighbourhood, habits: Habits, kind: type[TongshiError], code: int
) -> None:
    district = await neighbourhood.platform(PlatformPlan(DISTRICT, voice_waits=Waits(0.4, 0.4)))
    camera = await speaker_at(neighbourhood, district)
    camera.loudspeaker.habits = habits
    with pytest.raises(kind) as caught:
        await district.voice.start(district.viewer, wish())
    assert caught.value.code == code
    await neighbourhood.nothing_left(district)


async def test_talk_is_the_live_picture_and_a_broadcast(neighbourhood: Neighbourhood) -> None:
    district = await neighbourhood.platform(PlatformPlan(DISTRICT))
    camera = await speaker_at(neighbourhood, district, audio=True)
    opening = await district.voice.start(district.viewer, wish(CODE, Mode.TALK))
    assert opening.listening is not None
    assert opening.uplink_url.startswith("ws://")
    await neighbourhood.until(lambda: camera.calls.count == 1 and len(camera.loudspeaker.calls) == 1)
    await district.voice.stop(district.viewer, opening.session_id)
    await neighbourhood.nothing_left(district)


async def test_a_picture_without_sound_cannot_be_listened_to(neighbourhood: Neighbourhood) -> None:
    district = await neighbourhood.platform(PlatformPlan(DISTRICT))
    await speaker_at(neighbourhood, district)
    with pytest.raises(Unprocessable) as caught:
        await district.voice.start(district.viewer, wish(CODE, Mode.LISTEN))
    assert caught.value.code == 42203
    await neighbourhood.nothing_left(district)


async def test_a_ticket_is_good_once_and_for_its_session(neighbourhood: Neighbourhood) -> None:
    district = await neighbourhood.platform(PlatformPlan(DISTRICT))
    await speaker_at(neighbourhood, district)
    opening = await district.voice.start(district.viewer, wish())
    wrong = await Microphone.open(opening.uplink_url[:-4] + "0000")
    first = await Microphone.open(opening.uplink_url)
    again = await Microphone.open(opening.uplink_url)
    assert (wrong.status, first.status, again.status) == (401, 101, 410)
    first.send(1, b"text is no sound")
    assert (await first.received())[-2:] == (1003).to_bytes(2, "big")
    for one in (wrong, first, again):
        await one.close()
    await neighbourhood.nothing_left(district)


async def test_a_device_that_hangs_up_ends_the_session(neighbourhood: Neighbourhood) -> None:
    district = await neighbourhood.platform(PlatformPlan(DISTRICT))
    camera = await speaker_at(neighbourhood, district)
    await district.voice.start(district.viewer, wish())
    await neighbourhood.until(lambda: camera.loudspeaker.calls)
    await camera.loudspeaker.hang_up()
    await neighbourhood.nothing_left(district)


async def test_who_may_not_speak_does_not_and_is_recorded(neighbourhood: Neighbourhood) -> None:
    district = await neighbourhood.platform(PlatformPlan(DISTRICT))
    camera = await speaker_at(neighbourhood, district)
    rights = frozenset(Permission) - {Permission.BROADCAST}
    subject = Subject(SubjectKind.USER, "1", "tester", permissions=rights)
    with pytest.raises(TongshiError) as caught:
        await district.voice.start(Viewer(subject, HOST), wish())
    assert caught.value.code == 40301
    stranger = replace(subject, id="2", permissions=frozenset(Permission))
    with pytest.raises(NotFound):
        await district.voice.start(Viewer(stranger, HOST), wish())
    assert not camera.loudspeaker.hearings


async def test_an_upper_without_the_right_gets_404(neighbourhood: Neighbourhood) -> None:
    below = Neighbour(DISTRICT, Relation.LOWER, SECRET)
    city = await neighbourhood.platform(PlatformPlan(CITY, neighbours=(below,)))
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=city.gateway.port)
    district = await neighbourhood.platform(PlatformPlan(DISTRICT, neighbours=(above,)))
    await neighbourhood.until(lambda: DISTRICT in city.gateway.peers)
    camera = await speaker_at(neighbourhood, district)
    await neighbourhood.catalogue(city, DISTRICT)
    await neighbourhood.known(city, OUTPUT)
    await district.db.write(sharing_store.revoke_grant, f"upper-{CITY}", district.clock.at())
    with pytest.raises(PeerFailed) as caught:
        await city.gateway.broadcasts.open(DeviceId(OUTPUT))
    assert caught.value.details["sipStatus"] == 404
    assert not camera.loudspeaker.hearings
