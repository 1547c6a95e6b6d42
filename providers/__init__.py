"""The gateway to models: cache, budget, limits, retries, transports, prices."""

from providers.base import Asked, Completion, Message, Request, Sample, Sampling, Transport, Usage
from providers.book import ModelBook
from providers.budget import Amount, Budget
from providers.embedding import Embedded, EmbedRequest
from providers.gateway import CacheMode, Gateway
from providers.models import ModelSpec
from providers.prices import Price
from providers.scope import Scope
from providers.scoring import Score, ScoreRequest
from providers.status import GatewayStatus
from providers.tally import Totals

__all__ = [
    "Amount",
    "Asked",
    "Budget",
    "CacheMode",
    "Completion",
    "EmbedRequest",
    "Embedded",
    "Gateway",
    "GatewayStatus",
    "Message",
    "ModelBook",
    "ModelSpec",
    "Price",
    "Request",
    "Sample",
    "Sampling",
    "Scope",
    "Score",
    "ScoreRequest",
    "Totals",
    "Transport",
    "Usage",
]
