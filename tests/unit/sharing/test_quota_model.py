"""Days and months of Beijing, and what a caller is told when its quota is used up."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tongshi.errors import InvalidRequest
from tongshi.sharing.quota_model import Limit, Measure, Period, began, check, ends, exceeded

CALLS, ROWS, DAY, MONTH = Measure.CALLS, Measure.ROWS, Period.DAY, Period.MONTH
# Half past midnight of the first of January in Beijing is still December in UTC.
NEW_YEAR = datetime(2026, 12, 31, 16, 30, tzinfo=UTC)


def test_days_and_months_are_those_of_beijing() -> None:
    assert (began(DAY, NEW_YEAR), began(MONTH, NEW_YEAR)) == ("2027-01-01", "2027-01")
    assert ends(DAY, NEW_YEAR).isoformat() == "2027-01-02T00:00:00+08:00"
    assert ends(MONTH, NEW_YEAR).isoformat() == "2027-02-01T00:00:00+08:00"
    assert ends(MONTH, datetime(2026, 12, 31, 15, tzinfo=UTC)).isoformat() == "2027-01-01T00:00:00+08:00"


def test_a_refusal_says_what_is_used_up_and_until_when() -> None:
    calls = exceeded(Limit(CALLS, "query", DAY, 1000), 0, 1, NEW_YEAR)
    assert calls.message == "今日查询类接口的调用配额 1000 次已用完，2027-01-02 00:00（北京时间）恢复"
    assert (calls.code, calls.retry_after_s) == (42902, 23.5 * 3600)
    every = exceeded(Limit(CALLS, "all", MONTH, 5), 0, 1, NEW_YEAR)
    assert every.message == "本月调用配额 5 次已用完，2027-02-01 00:00（北京时间）恢复"
    rows = exceeded(Limit(ROWS, "all", DAY, 900), 400, 1000, NEW_YEAR)
    assert rows.code == 42903
    assert "还剩 400 条，本次结果有 1000 条；请减小每页条数" in rows.message
    assert rows.details["resetsAt"] == "2027-01-02T00:00:00+08:00"


@pytest.mark.parametrize(
    "limits",
    [
        (Limit(CALLS, "query", DAY, 1), Limit(CALLS, "query", DAY, 2)),
        (Limit(CALLS, "nonsense", DAY, 1),),
        (Limit(CALLS, "public", DAY, 1),),
        (Limit(ROWS, "query", DAY, 1),),
        (Limit(ROWS, "all", MONTH, 1),),
    ],
)
def test_quotas_that_say_nothing_clear_are_refused(limits: tuple[Limit, ...]) -> None:
    with pytest.raises(InvalidRequest):
        check(limits)


def test_quotas_by_class_and_period_stand_side_by_side() -> None:
    check(
        (
            Limit(CALLS, "query", DAY, 1),
            Limit(CALLS, "query", MONTH, 1),
            Limit(CALLS, "all", DAY, 1),
            Limit(ROWS, "all", DAY, 0),
        )
    )
