"""Quotas of keys: how many calls of a class in a day or a month, how many rows in a day; without a database.

Implements: DB31DSJ/Z 001-2024 6.4.3.2
Implements: DB31DSJ/Z 001-2024 6.4.3.3
Days and months are those of Beijing, as the people who agree on a quota count them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from tongshi.clock import BEIJING
from tongshi.errors import InvalidRequest, LimitExceeded
from tongshi.web.operations import Quota

EVERY_CLASS = "all"
# A key has one limit for each measure, class and period at most.
CLASSES = {quota.wire_name: quota.shown_name for quota in Quota if quota is not Quota.PUBLIC} | {
    EVERY_CLASS: "全部"
}
MOST = 10**12


class Measure(StrEnum):
    """What is counted."""

    CALLS = "calls"
    ROWS = "rows"


class Period(StrEnum):
    """For how long it is counted."""

    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Limit:
    """So much of a class in a period; ``most`` 0 is none at all. Without a limit nothing is counted."""

    measure: Measure
    quota_class: str
    period: Period
    most: int

    @property
    def counter(self) -> tuple[Measure, str, Period]:
        return self.measure, self.quota_class, self.period


@dataclass(frozen=True, slots=True)
class Use:
    """How a limit stands: what the platform's processes have taken of it, spent or not yet."""

    limit: Limit
    used: int
    resets_at: datetime


def began(period: Period, at: datetime) -> str:
    """The name of the day or month: ``2026-11-27``, ``2026-11``."""
    return f"{at.astimezone(BEIJING):{'%Y-%m-%d' if period is Period.DAY else '%Y-%m'}}"


def ends(period: Period, at: datetime) -> datetime:
    """When the day or month is over, in Beijing time."""
    today = at.astimezone(BEIJING).replace(hour=0, minute=0, second=0, microsecond=0)
    if period is Period.DAY:
        return today + timedelta(days=1)
    return (today.replace(day=1) + timedelta(days=32)).replace(day=1)


def check(limits: tuple[Limit, ...]) -> None:
    """Raises InvalidRequest for two limits of one counter, an unknown class, or rows by class or month."""
    seen = set()
    for number, limit in enumerate(limits):
        field = f"quotas[{number}]"
        if limit.counter in seen:
            raise InvalidRequest("同一类别和周期只能有一项配额", field=field)
        seen.add(limit.counter)
        if limit.quota_class not in CLASSES:
            raise InvalidRequest(f"没有接口类别 {limit.quota_class}", field=f"{field}.quotaClass")
        is_daily = limit.quota_class == EVERY_CLASS and limit.period is Period.DAY
        if limit.measure is Measure.ROWS and not is_daily:
            raise InvalidRequest("数据条数只按日、不分类别限制", field=field)


def exceeded(limit: Limit, left: int, wanted: int, at: datetime) -> LimitExceeded:
    """The refusal: what is used up, and until when (42902 calls, 42903 rows)."""
    until = ends(limit.period, at)
    day = "今日" if limit.period is Period.DAY else "本月"
    again = f"{until:%Y-%m-%d %H:%M}（北京时间）恢复"
    details: dict[str, object] = {
        "quotaClass": limit.quota_class,
        "period": limit.period.value,
        "limit": limit.most,
        "resetsAt": until.isoformat(),
    }
    if limit.measure is Measure.CALLS:
        kind = "" if limit.quota_class == EVERY_CLASS else f"{CLASSES[limit.quota_class]}类接口的"
        message, code = f"{day}{kind}调用配额 {limit.most} 次已用完，{again}", 42902
    else:
        details |= {"remaining": left, "wanted": wanted}
        message, code = f"{day}数据配额 {limit.most} 条已用完，{again}", 42903
        if left:
            message = f"{day}数据配额还剩 {left} 条，本次结果有 {wanted} 条；请减小每页条数，或等到 {again}"
    return LimitExceeded(message, code=code, retry_after_s=(until - at).total_seconds(), details=details)
