"""The shell lines of docs/integrators.md, word for word, against a platform that listens."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn

from tongshi.clock import SystemClock
from tongshi.exchange.proofs import roots_of
from tongshi.resources.devices import digest_store
from tongshi.resources.devices import store as devices
from tongshi.resources.devices.model import Filters
from tongshi.resources.platforms.model import Relation
from tongshi.sharing.model import EVERYTHING
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform, sample_archives

DOCUMENT = Path(__file__).parents[2] / "docs" / "integrators.md"
BLOCK = re.compile(r"<!-- curl: (values|lines) -->\n```sh\n(.*?)```", re.S)
CITY, DEPARTMENT, SECRET = "31000000002000000001", "31000008002000000002", "k" * 32
FIRST, SECOND, THIRD = (f"3100000800132000000{number}" for number in (1, 2, 3))

pytestmark = pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("openssl")), reason="curl or openssl is not installed"
)


@pytest.fixture
async def city(sqlite_url: str) -> AsyncIterator[tuple[RestPlatform, str]]:
    """A platform on a loopback port that knows the department's key, and its address."""
    platform = await RestPlatform.open(CITY, await Database.open(sqlite_url), SystemClock())
    await platform.admit(DEPARTMENT, Relation.LATERAL, SECRET)
    config = uvicorn.Config(platform.asgi, host="127.0.0.1", port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110  # uvicorn offers no event
            await asyncio.sleep(0.01)
    yield platform, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving
    await platform.close()


def lines() -> list[str]:
    found = BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert [kind for kind, _ in found] == ["values", "lines", "lines", "lines", "lines"]
    return [text for kind, text in found if kind == "lines"]


async def run(script: str, url: str, folder: Path, secret: str = SECRET) -> tuple[int, str]:
    values = f"URL={url}\nPLATFORM={CITY}\nKEY=key-{DEPARTMENT}\nSECRET={secret}\n"
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euo",
        "pipefail",
        "-c",
        values + script,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, output.decode()


async def held(platform: RestPlatform) -> dict[str, str]:
    rows, _ = await platform.devices.page(EVERYTHING, Filters(), 1, 100)
    return {row.device_id: row.item.name for row in rows}


async def test_the_lines_of_the_document_push_a_full_and_a_change(
    city: tuple[RestPlatform, str], tmp_path: Path
) -> None:
    platform, url = city
    sign, archive, full, change = lines()
    code, output = await run(sign + archive + full, url, tmp_path)
    assert code == 0, output
    assert set(await held(platform)) == {FIRST, SECOND}
    proof = json.loads((tmp_path / "proof.json").read_text())
    assert proof["data"] == {"equal": True, "missing": 0, "held": 0}
    first = await platform.devices.get(FIRST)
    assert (first.owner, first.ext.is_networked, first.ext.industries) == (DEPARTMENT, True, ("17",))
    code, output = await run(sign + archive + change, url, tmp_path)
    assert code == 0, output
    dry = json.loads(output)["data"]
    assert (dry["inserted"], dry["missing"], dry["rejectedCount"]) == (1, 1, 0)
    assert set(await held(platform)) == {SECOND, THIRD}
    assert json.loads((tmp_path / "answer.json").read_text())["data"]["position"] == 2


async def test_what_a_later_full_lacks_is_marked_missing_by_its_proof(
    city: tuple[RestPlatform, str], tmp_path: Path
) -> None:
    platform, url = city
    sign, archive, full, _ = lines()
    assert (await run(sign + archive + full, url, tmp_path))[0] == 0
    shorter = (
        "\nprintf '[%s]' \"$(sed -n '3,$p' devices.json | sed '1s/^ //;$s/]$//')\" >d; mv d devices.json\n"
    )
    code, output = await run(sign + archive + shorter + full, url, tmp_path)
    assert code == 0, output
    assert set(await held(platform)) == {SECOND}
    assert (await platform.devices.get(FIRST)).missing_since is not None


async def test_a_page_that_was_cut_is_noticed_by_the_proof(
    city: tuple[RestPlatform, str], tmp_path: Path
) -> None:
    _, url = city
    sign, archive, full, _ = lines()
    cut = full.replace('"$SNAPSHOT" "$LAST" "$(cat devices.json)"', '"$SNAPSHOT" "$LAST" "[]"')
    assert cut != full
    code, _ = await run(sign + archive + cut, url, tmp_path)
    assert code == 1
    assert json.loads((tmp_path / "proof.json").read_text())["data"]["equal"] is False


async def test_a_wrong_secret_is_told_and_stores_nothing(
    city: tuple[RestPlatform, str], tmp_path: Path
) -> None:
    platform, url = city
    sign, archive, _, change = lines()
    code, output = await run(sign + archive + change, url, tmp_path, secret="w" * 32)
    assert code != 0
    assert "40102" in output
    assert await held(platform) == {}


async def test_a_computed_root_is_the_root_of_the_stored_archive(database: Database) -> None:
    archives = sample_archives(DEPARTMENT, 40)
    await database.write(devices.upsert_many, archives, DEPARTMENT, SystemClock().at())
    count, digest = await database.read(digest_store.root_digest, DEPARTMENT)
    (root,) = roots_of(archives)
    assert (root.owner, root.count, root.digest) == (DEPARTMENT, count, digest.hex())
    assert roots_of(archives[:-1])[0].digest != root.digest
