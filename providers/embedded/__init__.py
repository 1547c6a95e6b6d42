"""Models that ship inside: a NumPy runtime for small Llama decoders with continuous batching."""

from providers.embedded.model import identity, shipped_models
from providers.embedded.transport import EmbeddedTransport

__all__ = ["EmbeddedTransport", "identity", "shipped_models"]
