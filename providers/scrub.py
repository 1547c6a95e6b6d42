"""Keeping keys out of messages: what a server or a library says is cleaned before it becomes an error's text."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["redact", "remember", "remember_environment", "scrub"]

_LOOKS_LIKE_A_KEY = re.compile(
    r"(?i)\b(?:sk|pk|rk|gsk|xai|hf|nvapi|AIza)[-_]?[A-Za-z0-9][A-Za-z0-9_\-*]{11,}|(?<=bearer )[^\s\"']{6,}"
)
_USER_AND_PASSWORD = re.compile(r"(?<=://)[^\s/@]*:[^\s/@]+(?=@)")
_NAMES_A_SECRET = re.compile(r"(?i)(?:^|_)(?:api_?key|access_key|key|token|secret|password|passwd)$")
_SHORTEST = 6
"""A shorter value ("x", "none") is a stand-in for local servers, and would be struck out of ordinary words."""
_LONGEST = 400

_known: tuple[str, ...] = ()


def remember(secret: str | None) -> None:
    """Keep a key out of every log line and trace of this process from now on."""
    global _known
    if secret and len(secret) >= _SHORTEST and secret not in _known:
        # The longest first, so that a key which begins another one does not leave its rest behind.
        _known = tuple(sorted({*_known, secret}, key=len, reverse=True))


def remember_environment(environment: Mapping[str, str]) -> None:
    """Remember the values of all variables whose names say that they hold a secret."""
    for name, value in environment.items():
        if _NAMES_A_SECRET.search(name):
            remember(value.strip())


def redact(text: str) -> str:
    """Return the text with what `remember` was given, passwords in addresses and what looks like a key as `[key]`."""
    for secret in _known:
        text = text.replace(secret, "[key]")
    return _LOOKS_LIKE_A_KEY.sub("[key]", _USER_AND_PASSWORD.sub("[key]", text))


def scrub(text: str, *secrets: str | None) -> str:
    """Return the text on one line, at most 400 characters, secrets and what looks like a key replaced by `[key]`."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[key]")
    text = " ".join(_LOOKS_LIKE_A_KEY.sub("[key]", text).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
