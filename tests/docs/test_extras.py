"""What messages and documents tell people to install is there to be installed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("architectures", "colonnade", "db", "docs", "evals", "flows", "nodes", "providers", "search")


def test_every_extra_that_is_named_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    files = [
        file
        for folder in FOLDERS
        for kind in ("*.py", "*.md")
        for file in (ROOT / folder).rglob(kind)
        if file.is_file()
    ]
    found = re.findall(
        r"colonnade\[([a-z,]+)\]", "\n".join(file.read_text("utf-8") for file in [ROOT / "README.md", *files])
    )
    named = {extra for extras in found for extra in extras.split(",")}
    assert {"embed", "parquet", "postgres"} < named
    assert named <= {*project["optional-dependencies"]}
