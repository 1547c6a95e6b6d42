"""A test run that is killed leaves no process behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.reaper import MARK, marked

_PARENT = """
import os, subprocess, sys
from tests.reaper import MARK, watch_over
watch_over()
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
print(os.environ[MARK], flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_had_started_is_ended() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert parent.stdout is not None
    mark = parent.stdout.readline().strip()
    assert mark != os.environ.get(MARK)
    assert len(marked(mark)) == 1
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 60
    while marked(mark):
        assert time.monotonic() < until
        time.sleep(0.05)
