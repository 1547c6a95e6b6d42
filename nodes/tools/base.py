"""The contract of a tool: settings and one async method from text to text.

What a tool is given was written by a model, so it is untrusted: a tool reads it strictly, does a bounded amount of
work, and says by `ToolError` what it could not do. A technique records that as evidence that is missing, and goes on.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from db.errors import ColonnadeError

__all__ = ["SECTIONS", "Tool", "ToolError"]

SECTIONS = ("When to use it", "Limits")
"""The sections that a tool's docstring has after its summary."""


class ToolError(ColonnadeError):
    """A call of a tool brought nothing; the message says why in words that a model may be shown."""


class Tool(BaseModel):
    """Something that turns a text into a text without a model; subclass it, and register it with `nodes.tools.tool`.

    The same text should bring the same result: results are not stored, and a run that is repeated calls again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usage: ClassVar[str] = ""
    """What the model that plans is told: what the tool does and what goes into the brackets."""

    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z][A-Za-z0-9_]{0,31}$",
        description="What plans call it; null for its registered name.",
    )
    about: str | None = Field(
        default=None, max_length=1000, description="What plans are told of it; null for its own words."
    )
    timeout_s: float = Field(default=30.0, gt=0, le=3600, description="Seconds after which a call has failed.")

    @abstractmethod
    async def call(self, text: str) -> str:
        """Do the work; raises `ToolError` where nothing comes of it. Any other error is a bug and ends the run."""
