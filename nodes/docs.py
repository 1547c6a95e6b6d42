"""The page of a technique or a scorer, in Markdown, made from its docstring and the schema of its settings."""

from __future__ import annotations

from nodes.describe import Description

__all__ = ["page"]


def page(about: Description) -> str:
    """Return the page of what is described."""
    parts = [f"# {about.name}", about.summary]
    if about.body:
        parts.append(about.body)
    parts += ["## When to use it", _sentence(about.sections["When to use it"]), "## Calls", _calls(about)]
    parts += ["## Settings", _settings(about), "## State", _state(about)]
    parts += ["## Paper", about.sections["Paper"], "## Example", about.sections["Example"]]
    return "\n\n".join(parts) + "\n"


def _calls(about: Description) -> str:
    calls, symbols = about.sections["Calls"], about.sections["Symbols"]
    return calls if symbols == "none." else f"{calls}\n\n{_sentence(symbols)}"


def _sentence(text: str) -> str:
    # A symbol ("n is the number of …") keeps its letter: N would be another one.
    return text if text.startswith("`") or text[1:2] == " " else text[:1].upper() + text[1:]


def _settings(about: Description) -> str:
    if not about.settings:
        return "None."
    rows = ["| setting | value | default | meaning |", "|---|---|---|---|"]
    for setting in about.settings:
        default = "required" if setting.default is None else f"`{setting.default}`"
        cells = (f"`{setting.name}`", setting.type, default, setting.description)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def _state(about: Description) -> str:
    rows = {
        "Needs": about.needs,
        "Reads where it is there": about.reads,
        "Gives": about.gives,
        "Drops": about.drops,
        "Measures": about.measures,
    }
    return "\n".join(f"- {label}: {', '.join(f'`{v}`' for v in values) or 'nothing'}" for label, values in rows.items())
