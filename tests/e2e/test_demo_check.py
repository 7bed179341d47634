"""``tongshi demo --check``: the whole path over real processes, judged by an independent decoder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.e2e
@pytest.mark.timeout(240)
def test_the_demonstration_shows_the_whole_path(tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-m", "tongshi.cli", "demo", "--check", "--port-offset", "1400", "--folder", folder],
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓") == 6
