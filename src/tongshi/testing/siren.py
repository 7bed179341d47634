"""The alarm side of a simulated device: what it raises, what it holds back, and what others passed on to it.

Implements: GB/T 28181-2022 9.4
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from tongshi.protocols.gb28181.alarm import AlarmNotify, AlarmResponse
from tongshi.protocols.gb28181.alarm_types import DEVICE
from tongshi.protocols.gb28181.control import DeviceControl
from tongshi.protocols.gb28181.dates import render_time

MAX_KEPT = 1_000


@dataclass(slots=True)
class Siren:
    """Holds a device alarm until it is reset (note to A.2.5.3).

    Attributes:
        held: codes that raised a device alarm and wait for its reset.
        answers: Responses to what was raised. taken: alarms that were passed on to this device.
        refuses: answer ERROR to what is passed on.
    """

    held: set[str] = field(default_factory=set)
    answers: list[AlarmResponse] = field(default_factory=list)
    taken: list[AlarmNotify] = field(default_factory=list)
    refuses: bool = False

    def raised(self, sn: int, code: str, at: datetime, **values: object) -> AlarmNotify | None:
        """A new alarm of one code; None while its device alarm is held."""
        said = {"priority": 1, "method": DEVICE, "time": render_time(at), **values}
        notify = AlarmNotify(sn, code, **said)  # type: ignore[arg-type]  # fields by name, of a test
        if notify.method == DEVICE:
            if code in self.held:
                return None
            self.held.add(code)
        return notify

    def reset(self, order: DeviceControl) -> bool:
        """Obey ResetAlarm; alarms of other methods hold nothing."""
        if not order.alarm_methods or DEVICE in order.alarm_methods:
            self.held.discard(order.device_id)
        return True

    def take(self, notify: AlarmNotify) -> AlarmResponse:
        """An alarm that was passed on to this device."""
        del self.taken[: max(0, len(self.taken) - MAX_KEPT + 1)]
        self.taken.append(notify)
        return AlarmResponse(notify.sn, notify.device_id, not self.refuses)

    def answered(self, response: AlarmResponse) -> None:
        """The Response to an alarm of ours."""
        del self.answers[: max(0, len(self.answers) - MAX_KEPT + 1)]
        self.answers.append(response)
