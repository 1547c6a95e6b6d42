"""A gateway to a local server whose models do what the prompts ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from providers.gateway import Gateway
from providers.testing_server import ModelServer
from tests.architectures.support import answer_well, book_at


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer(reply=answer_well) as running:
        yield running


@pytest.fixture
async def gateway(server: ModelServer) -> AsyncIterator[Gateway]:
    async with Gateway(book_at(server.url), None) as opened:
        yield opened


@pytest.fixture
async def idle() -> AsyncIterator[Gateway]:
    """A gateway for architectures that ask nothing."""
    async with Gateway(book_at(), None) as opened:
        yield opened
