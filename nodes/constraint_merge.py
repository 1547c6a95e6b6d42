"""Constraint-consistent merge: one structured result out of several, of which declared constraints hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from nodes.base import Candidate, Context, Estimator, NodePlan, Note, Range, Shape, State, Technique, exactly
from nodes.calls import needed
from nodes.choosing import best
from nodes.consistent_choice import Choice, Picks, choose
from nodes.constraints import Constraint
from nodes.planning import fresh
from nodes.predictions import Prediction, Slot, read_predictions, slots_of
from nodes.registry import technique
from nodes.settings import ModelName
from nodes.structured import folded

__all__ = ["ConstraintMerge", "ErrorRate"]

FieldName = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class ErrorRate(BaseModel):
    """How often a model is wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelName
    field: FieldName | None = Field(default=None, description="The field that it is wrong in; null for all others.")
    rate: float = Field(ge=0, le=1, allow_inf_nan=False)


@technique("constraint_merge")
class ConstraintMerge(Technique):
    """Merge structured candidates field by field: keep as many predictions as can stand together, and drop the rest.

    A candidate is a JSON object, or lines `name: value`; each of its fields is a prediction. For every field one of the
    predicted values is chosen, or none, so that at most the share `inconsistency` of the `constraints` is violated and
    the predictions that agree with the result have the greatest weight. A prediction weighs 1 less the error rate of
    its model (`errors`, of a model as a whole or in one field). Constraints are data, never code: `sum` with `equals`,
    `less`, `at_most`, `one_of`, `different`, `same`, `requires` (`nodes.constraints` says what each means). Up to
    `exact_up_to` combinations of values the choice is the best there is (branch and bound); beyond, hill climbing
    finds a good one, never worse than any one candidate, and a note says so. With `complete` every field gets a value;
    where that cannot be without breaking too many constraints, the fewest are broken and a note says so. The result is
    one JSON object; the order of the candidates plays no part in it. A candidate without fields is noted and left out;
    where none has any, one candidate is handed on as it is.

    When to use it: on extraction, filled forms and plans by several models, where fields depend on each other and a
        vote on whole outputs would find no two alike, or a vote on each field would put together what contradicts.
    Calls: 0.
    Paper: Consistency-based Abductive Reasoning over Perceptual Errors of Multiple Pre-trained Models in Novel
        Environments: choosing the predictions of greatest coverage under a bound on inconsistency. The paper works on
        images, with rules of error learned from data and an integer program; fields of texts, error rates and the kinds
        of constraints as settings, branch and bound and hill climbing are ours.
    Symbols: `coverage` = weight of the predictions that are in the result / weight of all; `inconsistency` = violated
        constraints / constraints; `fields` = fields that have a value.
    Example:
        ```yaml
        name: consistent-invoice
        layers:
          - generate: {model: [fast, strong], samples: 3, temperature: 0.8, system: "Reply in JSON: net, tax, total."}
          - constraint_merge:
              constraints:
                - {sum: [net, tax], equals: total}
                - {less: [0, tax, net]}
              errors: [{model: fast, rate: 0.3}, {model: strong, rate: 0.1}]
        ```
    """

    needs = frozenset({"candidates"})
    gives = frozenset({"scores"})
    drops = frozenset({"critiques", "verdicts"})
    measures = frozenset({"coverage", "fields", "inconsistency"})
    composes = True

    constraints: tuple[Constraint, ...] = Field(default=(), description="What must hold between fields.")
    inconsistency: float = Field(
        default=0.0, ge=0, le=1, allow_inf_nan=False, description="Share of the constraints that may be violated."
    )
    errors: tuple[ErrorRate, ...] = Field(default=(), description="How often each model is wrong, or is in a field.")
    other_error: float = Field(
        default=0.0, ge=0, le=1, allow_inf_nan=False, description="The error rate of models that are not named."
    )
    fields: tuple[FieldName, ...] = Field(default=(), description="Fields of the result; all, where none is named.")
    complete: bool = Field(default=False, description="Give every field a value, rather than none to a doubtful one.")
    exact_up_to: int = Field(
        default=20_000, ge=0, le=200_000, description="Most combinations of values that are searched to the end."
    )

    @model_validator(mode="after")
    def _once(self) -> Self:
        named = [(one.model, folded(one.field or "")) for one in self.errors]
        if twice := [model for model, field in named if named.count((model, field)) > 1]:
            raise ValueError(f"the error rate of {twice[0]!r} is given more than once")
        return self

    async def run(self, state: State, context: Context) -> State:
        """Merge the candidates; raises `InsufficientCandidates` where there are none."""
        candidates = needed(state, context.node)
        predictions, without = read_predictions(candidates, self.fields)
        notes = [Note(context.node, "unparsed", f"no fields in {', '.join(without)}")] if without else []
        if not predictions:
            chosen = best(candidates)
            notes.append(Note(context.node, "fallback", f"no candidate has fields; {chosen.id} is handed on"))
            handed = replace(chosen, critique=None, verdict=None, verdict_reason=None).scored(context.node, 0.0)
            state = replace(state, candidates=(handed,))
            return state.measured(coverage=0.0, fields=0, inconsistency=0.0).noted(*notes)
        slots = slots_of(predictions, self._weight, self.fields)
        choice, more = self._choose(slots, predictions, context.node)
        total = math.fsum(option.weight for slot in slots.values() for option in slot.options)
        coverage = choice.weight / total if total else 0.0
        merged = _merged(context.node, slots, choice.picks, predictions).scored(context.node, coverage)
        return (
            replace(state, candidates=(merged,))
            .measured(
                coverage=coverage,
                fields=sum(place is not None for place in choice.picks.values()),
                inconsistency=choice.violated / len(self.constraints) if self.constraints else 0.0,
            )
            .noted(*notes, *more)
        )

    def _weight(self, model: str | None, field: str) -> float:
        rates = {folded(one.field or ""): one.rate for one in self.errors if one.model == model}
        return 1.0 - rates.get(field, rates.get("", self.other_error))

    def _choose(
        self, slots: Mapping[str, Slot], predictions: Sequence[Prediction], node: str
    ) -> tuple[Choice, list[Note]]:
        options = {key: slot.options for key, slot in slots.items()}
        allowed = math.floor(self.inconsistency * len(self.constraints) + 1e-9)
        starts = [prediction.picks(slots) for prediction in predictions]
        notes: list[Note] = []
        for abstain in (False,) if self.complete else (True, False):
            choice = choose(
                options,
                self.constraints,
                allowed=allowed,
                abstain=abstain,
                exact_up_to=self.exact_up_to,
                starts=starts,
            )
            if any(place is not None for place in choice.picks.values()):
                break
            notes.append(Note(node, "fallback", "no value can stand; all fields are kept with the fewest violations"))
        if not notes and choice.violated > allowed:
            detail = f"{choice.violated} of {len(self.constraints)} constraints are violated, {allowed} may be"
            notes.append(Note(node, "fallback", detail))
        if not choice.exact:
            notes.append(Note(node, "fallback", "too many combinations for an exact search; hill climbing chose"))
        return choice, notes

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell no call, and one result that may hold parts of all candidates."""
        tokens = shape.candidate_tokens
        # JSON sets quotes around names and values, and marks before quotes inside them.
        highest = max(1.0, shape.candidates.high) * tokens.high * 3 + 2
        return NodePlan((), fresh(shape, exactly(1), Range(1, max(1.0, tokens.likely), max(1.0, highest))))


def _merged(node: str, slots: Mapping[str, Slot], picks: Picks, predictions: Sequence[Prediction]) -> Candidate:
    chosen = {key: place for key in slots if (place := picks[key]) is not None}
    values = {slots[key].name: slots[key].options[place].value for key, place in chosen.items()}
    parents = tuple(one.candidate.id for one in predictions if one.picks(slots).items() & chosen.items())
    text = json.dumps(values, ensure_ascii=False)
    return Candidate(id=f"{node}:1", text=text, node=node, model=None, parents=parents)
