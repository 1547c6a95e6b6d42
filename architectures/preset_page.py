"""The page of a preset, in Markdown, made from its file."""

from __future__ import annotations

import yaml

from architectures.preset import Preset

__all__ = ["preset_page"]


def preset_page(preset: Preset) -> str:
    """Return the page of a preset."""
    layers = yaml.safe_dump(preset.architecture, sort_keys=False, width=110, default_flow_style=None).rstrip()
    rows = [
        f"| `{name}` | `{yaml.safe_dump(one.default, default_flow_style=True).split(chr(10))[0]}` | {one.help} |"
        for name, one in preset.parameters.items()
    ]
    table = ["| parameter | default | meaning |", "|---|---|---|", *rows]
    use = f'`colonnade run preset:{preset.name} "..."`, in Python `colonnade.load("preset:{preset.name}")`.'
    parts = [f"# {preset.name}", preset.description, f"Use: {use}", "## When to use it", preset.when]
    parts += ["## Parameters", "\n".join(table), "## Paper", preset.paper, "## Architecture", f"```yaml\n{layers}\n```"]
    return "\n\n".join(parts) + "\n"
