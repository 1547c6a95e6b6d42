"""`colonnade doctor`: what works on this machine and what does not, with the cure beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import typer

from colonnade.cli.console import emit, out
from colonnade.cli.options import JsonOption, ModelsOption

__all__ = ["doctor"]


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str


def doctor(json: JsonOption = False, models: ModelsOption = None) -> None:
    """Look at Python, packages, database, models, Redis and Prefect; exit code 1 where something needed is broken."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _packages,
        _database,
        lambda: _models(models),
        _embedded,
        _redis,
        _prefect,
    )
    findings = [check() for check in checks]
    for finding in findings:
        if json:
            emit({"what": finding.what, "ok": finding.ok, "detail": finding.detail})
        else:
            out(f"{'ok   ' if finding.ok else 'WRONG'}  {finding.what:<9} {finding.detail}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("python", sys.version_info >= (3, 11), version)


def _packages() -> Finding:
    from importlib.metadata import PackageNotFoundError, version

    shown: list[str] = []
    for name in ("colonnade", "prefect", "langgraph", "litellm", "openai", "pydantic", "sqlmodel", "redis"):
        try:
            shown.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            return Finding("packages", False, f"{name} is not installed; run 'make setup'")
    return Finding("packages", True, ", ".join(shown))


def _database() -> Finding:
    from db.database import Database
    from db.errors import UserError

    try:
        with Database.open() as database:
            return Finding("database", True, database.url_without_password)
    except UserError as error:
        return Finding("database", False, str(error))


def _models(path: object) -> Finding:
    from pathlib import Path

    from db.errors import UserError
    from providers.book import ModelBook

    try:
        names = ModelBook.load(path if isinstance(path, Path) else None).names()
    except UserError as error:
        return Finding("models", False, str(error))
    return Finding("models", True, ", ".join(names))


def _embedded() -> Finding:
    import asyncio

    from db.errors import ColonnadeError
    from providers.base import Message, Sampling, WireRequest
    from providers.embedded import EmbeddedTransport

    async def one_token() -> None:
        transport = EmbeddedTransport("nano")
        try:
            await transport.complete(
                WireRequest(
                    model="nano",
                    messages=(Message("user", "1 + 1"),),
                    sampling=Sampling(max_tokens=1),
                    indices=(0,),
                    seeds=(0,),
                )
            )
        finally:
            await transport.aclose()

    try:
        asyncio.run(one_token())
    except ColonnadeError as error:
        return Finding("embedded", False, str(error))
    return Finding("embedded", True, "nano answers")


def _redis() -> Finding:
    url = os.environ.get("COLONNADE_REDIS_URL")
    if not url:
        return Finding("redis", True, "not configured (COLONNADE_REDIS_URL); only several workers need it")
    import redis

    try:
        with redis.Redis.from_url(url, socket_connect_timeout=2) as client:
            client.ping()
    except redis.RedisError as error:
        return Finding("redis", False, f"COLONNADE_REDIS_URL does not answer: {type(error).__name__}")
    return Finding("redis", True, "answers")


def _prefect() -> Finding:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return Finding("prefect", True, "built-in server (set PREFECT_API_URL to use one of your own)")
    import httpx

    try:
        healthy = httpx.get(f"{url.rstrip('/')}/health", timeout=3).is_success
    except httpx.HTTPError as error:
        return Finding("prefect", False, f"PREFECT_API_URL={url} does not answer ({type(error).__name__})")
    return Finding("prefect", healthy, url)
