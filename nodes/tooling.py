"""Tooling: what techniques share whose model asks for work that tools do, or a model by the name of `LLM`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple, Self

from pydantic import Field, model_validator

from nodes.base import CallPlan, Context, Estimator, Note, Range
from nodes.calls_in_text import ToolCall, clipped
from nodes.settings import ModelName
from nodes.threads import Threads, enclosed
from nodes.tools.base import Tool, ToolError
from nodes.tools.registry import AnyTool, tool_name
from providers.errors import ProviderError

__all__ = ["LLM", "Evidence", "Offered", "Tooling"]

LLM: Final = "LLM"
"""The name by which plans call a model."""

_LLM_USAGE: Final = (
    "a language model that sees nothing but what stands in the brackets, such as LLM[a question or a task]"
)


class Offered(NamedTuple):
    """A tool as the templates show it."""

    name: str
    usage: str


class Evidence(NamedTuple):
    """What came of one call."""

    text: str
    """What was found, or why nothing was."""
    is_found: bool
    notes: list[Note]
    failures: tuple[ProviderError, ...]


class Tooling(Threads):
    """A technique whose model may call tools."""

    tools: tuple[AnyTool, ...] = Field(default=(), max_length=16, description="The tools that may be called.")
    llm: bool = Field(default=True, description="A model may be called as well, by the name `LLM`.")
    worker: ModelName | None = Field(default=None, description="The model that is called as `LLM`; null for `model`.")
    solver: ModelName | None = Field(
        default=None, description="The model that answers from the evidence; null for `model`."
    )
    evidence_bytes: int = Field(
        default=2000, ge=200, le=100_000, description="Most bytes of one evidence; what is longer is cut."
    )

    @model_validator(mode="after")
    def _has_work_for_someone(self) -> Self:
        if not self.tools and not self.llm:
            raise ValueError("there is nothing to call; name `tools` or leave `llm` on")
        names = [name.casefold() for name in self.toolbox()]
        twice = sorted({name for name in [*names, LLM.casefold()] if [*names, LLM.casefold()].count(name) > 1})
        if twice or len(names) < len(self.tools):
            raise ValueError("two tools have the same name, or one is called LLM; give them a `name` of their own")
        return self

    @property
    def working_model(self) -> str:
        """The model that is called as `LLM`."""
        return self.worker or self.model

    @property
    def solving_model(self) -> str:
        """The model that answers."""
        return self.solver or self.model

    def models(self) -> tuple[str, ...]:
        """Name the model that plans, the one that works and the one that answers."""
        workers = (self.working_model,) if self.llm else ()
        return tuple(dict.fromkeys((self.model, *workers, self.solving_model)))

    def toolbox(self) -> Mapping[str, Tool]:
        """Return the tools by the names that plans call them by."""
        return {tool.name or tool_name(type(tool)): tool for tool in self.tools}

    def offered(self) -> tuple[Offered, ...]:
        """Return what the model that plans is told."""
        tools = tuple(
            Offered(name, " ".join((tool.about or tool.usage).split())) for name, tool in self.toolbox().items()
        )
        return (*tools, Offered(LLM, _LLM_USAGE)) if self.llm else tools

    async def work(self, call: ToolCall, first: int, context: Context) -> Evidence:
        """Make a call; what fails is evidence that is missing, noted, never an error."""
        if self.is_llm(call):
            return await self._ask_worker(call, first, context)
        known = {name.casefold(): tool for name, tool in self.toolbox().items()}
        tool = known.get(call.tool.casefold())
        if tool is None:
            return self.missing(call, f"there is no tool {call.tool!r}", context)
        try:
            async with asyncio.timeout(tool.timeout_s):
                found = await tool.call(call.text)
        except ToolError as error:
            return self.missing(call, str(error), context)
        except TimeoutError:
            return self.missing(call, f"no result within {tool.timeout_s:g} s", context)
        if not found.strip():
            return self.missing(call, "an empty result", context)
        return Evidence(clipped(found, self.evidence_bytes), True, [], ())

    def is_llm(self, call: ToolCall) -> bool:
        """Tell whether a call is one of the model."""
        return self.llm and call.tool.casefold() == LLM.casefold()

    def missing(self, call: ToolCall, why: str, context: Context) -> Evidence:
        """Return what stands in the place of evidence that could not be had."""
        said = clipped(f"(no evidence: {why})", self.evidence_bytes)
        return Evidence(said, False, [Note(context.node, "skipped", f"{clipped(str(call), 120)}: {why}")], ())

    async def _ask_worker(self, call: ToolCall, first: int, context: Context) -> Evidence:
        replied = await self.reply(
            context,
            self.working_model,
            "subtask",
            subtask_variables(enclosed(call.text)),
            what=f"{LLM} with {self.working_model}",
            first=first,
        )
        if replied.text is None or not replied.text.strip():
            empty = self.missing(call, "the model did not answer", context)
            return Evidence(empty.text, False, [*replied.notes, *empty.notes], replied.failures)
        # What a model concludes stands at the end.
        return Evidence(clipped(replied.text, self.evidence_bytes, end=True), True, replied.notes, replied.failures)

    def foretell_workers(self, estimator: Estimator, most: int, likely: float, texts: Range) -> tuple[CallPlan, ...]:
        """Plan up to `most` calls of `LLM` in each thread."""
        if not self.llm:
            return ()
        calls = Range(0, likely, most)
        return (self.foretell_for(estimator, self.working_model, "subtask", subtask_variables(""), texts, calls),)

    def evidence_tokens(self, estimator: Estimator) -> Range:
        """Foretell the length of one evidence."""
        likely = 60.0
        if self.llm:
            likely = estimator.completion(self.working_model, self.sampling(), "subtask").likely
        return Range(0, min(likely, self.evidence_bytes), self.evidence_bytes)


def subtask_variables(task: str) -> Mapping[str, object]:
    """Return what the template `subtask` shows where there is nothing but a task."""
    return {"task": task, "question": "", "steps": ()}
