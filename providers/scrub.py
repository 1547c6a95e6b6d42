"""Keeping keys out of messages: what a server or a library says is cleaned before it becomes an error's text."""

from __future__ import annotations

import re

__all__ = ["scrub"]

_LOOKS_LIKE_A_KEY = re.compile(
    r"(?i)\b(?:sk|pk|rk|gsk|xai|hf|nvapi|AIza)[-_]?[A-Za-z0-9][A-Za-z0-9_\-*]{11,}|(?<=bearer )[^\s\"']{6,}"
)
_LONGEST = 400


def scrub(text: str, *secrets: str | None) -> str:
    """Return the text on one line, at most 400 characters, secrets and what looks like a key replaced by `[key]`."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[key]")
    text = " ".join(_LOOKS_LIKE_A_KEY.sub("[key]", text).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
