"""What stands in for `vllm run-batch`: reads and writes the same files, with the testing server's replies."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from providers.testing_batch_server import BatchServer


def main() -> None:
    """Answer a file; `--fail` writes nothing, `--half` breaks off in the middle, `--wait` waits for a file first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-i", required=True)
    parser.add_argument("-o", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--fail", action="store_true")
    parser.add_argument("--half", type=Path)
    parser.add_argument("--wait", type=Path)
    chosen = parser.parse_args()
    while chosen.wait is not None and not chosen.wait.exists():
        time.sleep(0.01)
    if chosen.fail:
        sys.exit("no such model")
    lines = [json.loads(line) for line in Path(chosen.i).read_text().splitlines()]
    output = BatchServer(models=[chosen.model], counting=False).run_batch(lines)
    if chosen.half is not None and not chosen.half.exists():
        chosen.half.touch()
        Path(chosen.o).write_bytes(output[: len(output) // 2])
        sys.exit(1)
    Path(chosen.o).write_bytes(output)


if __name__ == "__main__":
    main()
