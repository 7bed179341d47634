"""A district's ledger goes into the archive and comes back, over REST and by command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tongshi import cli
from tongshi.clock import ManualClock
from tongshi.config.sections import Config, PlatformSection, StorageSection
from tongshi.demo.topology import write_toml
from tongshi.exchange.signing import Signer
from tongshi.resources.devices import store as devices
from tongshi.resources.devices.ledger.csv_table import load
from tongshi.resources.devices.model import Source
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform, sample_archives

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
ID = "31010400001320000001"
FILE = Path(__file__).parents[1] / "data" / "ledger" / "street.csv"
PATH = "/api/v1/archive/ledger:import"


class District:
    """A platform and a key that may write archives."""

    def __init__(self, platform: RestPlatform, clock: ManualClock) -> None:
        self.platform = platform
        self._clock = clock

    async def take(self, rows: list[dict[str, Any]], status: int = 200, **body: Any) -> Any:
        raw = msgspec.json.encode({"rows": rows, **body})
        headers = Signer("editor", "e" * 32, HOME, self._clock).headers("POST", PATH, "", raw)
        async with self.platform.http() as client:
            answer = await client.post(
                PATH, content=raw, headers={**headers, "Content-Type": "application/json"}
            )
        assert answer.status_code == status, answer.text
        return answer.json()["data"]


@pytest.fixture
async def district(database: Database) -> District:
    clock = ManualClock()
    platform = await RestPlatform.open(HOME, database, clock)
    await platform.grants.put_key("editor", "editor", "e" * 32, {Permission.ARCHIVE_WRITE})
    return District(platform, clock)


async def test_a_dry_run_says_the_same_as_the_run_and_writes_nothing(district: District) -> None:
    rows = load(FILE)
    dry = await district.take(rows)
    assert await district.platform.devices.find(ID) is None
    wet = await district.take(rows, dryRun=False)
    assert {**dry, "dryRun": False} == wet
    assert (wet["rowCount"], wet["inserted"], wet["refused"]) == (4, 2, 2)
    assert {rule["rule"]: rule["count"] for rule in wet["rules"]} == {
        "L-01": 1,
        "L-02": 1,
        "L-03": 4,
        "L-07": 2,
        "L-10": 1,
        "L-11": 1,
        "L-13": 1,
        "L-17": 1,
        "L-21": 1,
    }
    again = await district.take(rows, dryRun=False)
    assert (again["inserted"], again["updated"], again["unchanged"]) == (0, 0, 2)


async def test_what_was_read_stands_in_the_archive(district: District) -> None:
    await district.take(load(FILE), dryRun=False)
    held = await district.platform.devices.get(ID)
    assert (held.owner, held.source, held.item.civil_code) == (HOME, Source.FILE, "31010415")
    assert held.item.install_time == "2018-12-01T00:00:00"
    assert (held.ext.is_controllable, held.ext.is_networked) == (True, True)
    assert held.ext.keyboard_number == "17000001"
    assert held.ext.scene_photo_url == "http://10.1.0.9/1.jpg"


async def test_what_a_ledger_leaves_empty_stays(district: District) -> None:
    db, at = district.platform.db, district.platform.clock.at()
    (old,) = sample_archives(HOME, 1)
    await db.write(devices.upsert_many, [old], HOME, at)
    row = {"SBBM": old.device_id, "SBMC": "新名", "SBXH": "", "SFKK": "0"}
    report = await district.take([row], dryRun=False)
    assert report["updated"] == 1
    held = await district.platform.devices.get(old.device_id)
    assert (held.item.name, held.item.model, held.item.parent_ids) == ("新名", "T1", (HOME,))
    assert held.ext.is_controllable is False


async def test_a_device_of_another_platform_is_left_alone(district: District) -> None:
    db, at = district.platform.db, district.platform.clock.at()
    (theirs,) = sample_archives(ABROAD, 1)
    await db.write(devices.upsert_many, [theirs], ABROAD, at)
    report = await district.take([{"SBBM": theirs.device_id, "SBMC": "抢"}], dryRun=False)
    assert (report["refused"], report["findings"][0]["rule"]) == (1, "L-23")
    assert (await district.platform.devices.get(theirs.device_id)).item.name == theirs.item.name


async def test_a_missing_device_comes_back_and_is_noted(district: District) -> None:
    db, at = district.platform.db, district.platform.clock.at()
    (old,) = sample_archives(HOME, 1)
    await db.write(devices.upsert_many, [old], HOME, at)
    await db.write(devices.mark_missing, HOME, [old.device_id], at)
    report = await district.take([{"SBBM": old.device_id}], dryRun=False)
    assert [finding["rule"] for finding in report["findings"]] == ["L-24"]
    assert (await district.platform.devices.get(old.device_id)).missing_since is None


async def test_the_importers_dictionary_is_checked_and_used(district: District) -> None:
    given = [{"label": "快球", "value": "1"}, {"label": "匀速球", "value": "1"}]
    report = await district.take([{"SBBM": ID, "SXJLX": "匀速球"}], dryRun=False, options={"SXJLX": given})
    assert [finding["rule"] for finding in report["findings"]] == ["L-28", "L-10"]
    assert (await district.platform.devices.get(ID)).item.ptz_type == 1


@pytest.mark.parametrize(
    "body",
    [
        {"rows": []},
        {"rows": [{"SBBM": ["x"]}]},
        {"rows": [{"SBBM": "x" * 3000}]},
        {"rows": [{"SBBM": ID}] * 5_001},
        {"rows": [{"SBBM": ID}], "flags": "10"},
        {"rows": [{"SBBM": ID}], "options": {"SXJLX": [{"label": 1}]}},
        {"rows": [{f"C{n}": 1 for n in range(201)}]},
    ],
)
async def test_a_body_out_of_bounds_is_refused(district: District, body: dict[str, Any]) -> None:
    await district.take(status=400, **body)


def test_the_command_imports_and_exports_the_same_ledger(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tongshi.toml"
    write_toml(
        Config(platform=PlatformSection(id=HOME, name="区"), storage=StorageSection(url=sqlite_url)), config
    )
    words = ["ledger", "import", str(FILE), "--config", str(config)]
    report = tmp_path / "report.csv"
    assert cli.main([*words, "--report", str(report)]) == 1
    assert "试运行，未写入：4 行，新增 2" in capsys.readouterr().out
    assert {row["rule"] for row in load(report)} >= {"L-01", "L-02", "L-03"}
    assert cli.main([*words, "--apply"]) == 1
    out = tmp_path / "out.csv"
    assert cli.main(["ledger", "export", str(out), "--config", str(config), "--flags", "12"]) == 0
    assert "L-27" not in capsys.readouterr().out
    exported = {row["SBBM"]: row for row in load(out)}
    assert exported[ID]["AZSJ"] == "1543593600000"
    assert (exported[ID]["SFKK"], exported[ID]["LWSX"], exported[ID]["CSBH"]) == ("1", "1", "")
    again = ["ledger", "import", str(out), "--config", str(config), "--flags", "12"]
    assert cli.main(again) == 0
    assert "不变 2" in capsys.readouterr().out


def test_a_file_that_is_no_ledger_is_refused_by_name(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config, broken = tmp_path / "tongshi.toml", tmp_path / "broken.csv"
    write_toml(
        Config(platform=PlatformSection(id=HOME, name="区"), storage=StorageSection(url=sqlite_url)), config
    )
    broken.write_bytes(b"SBBM,SBBM\n1,2\n")
    assert cli.main(["ledger", "import", str(broken), "--config", str(config)]) == 2
    assert "列 SBBM 出现两次" in capsys.readouterr().err
