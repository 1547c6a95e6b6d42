"""The construction rules of Archon's paper, and where a published configuration bends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from architectures.archon_terms import Component

__all__ = ["bent_rules"]

_ALONE: Final = frozenset({"critic", "ranker", "unit_test_evaluator", "unit_test_generator", "verifier"})
_MAKERS: Final = frozenset({"fuser", "generator"})


def bent_rules(layers: Sequence[Sequence[Component]]) -> list[str]:
    """Say, rule by rule, what a configuration does against the paper's rules or otherwise than Archon's code."""
    kinds = [{component.kind for component in layer} for layer in layers]
    return [
        *_bent_in_layers(layers, kinds),
        *_bent_unit_tests(kinds),
        *_old_critiques(kinds),
        *_several_at_the_end(layers, kinds),
    ]


def _bent_in_layers(layers: Sequence[Sequence[Component]], kinds: Sequence[set[str]]) -> list[str]:
    found = []
    for number, (layer, kind) in enumerate(zip(layers, kinds, strict=True), 1):
        if len(kind) > 1:
            found.append(
                f"layer {number} mixes {', '.join(sorted(kind))}, where the paper has one component type a layer"
            )
        elif len(layer) > 1 and kind <= _ALONE:
            found.append(
                f"layer {number} holds {len(layer)} components of type {layer[0].kind}, where the paper has one"
            )
        if number > 1 and "generator" in kind and any(k & _MAKERS for k in kinds[: number - 1]):
            found.append(
                f"layer {number} holds generators after candidates were made; theirs take the place of those, "
                "where the paper has generators first and only there"
            )
        if "critic" in kind and not _read_later(kinds[number:]):
            found.append(f"the critiques of layer {number} are read by no ranker or fuser, as the paper asks for")
    return found


def _read_later(kinds: Sequence[set[str]]) -> bool:
    for kind in kinds:
        if kind & {"fuser", "ranker"}:
            return True
        if "generator" in kind:
            return False
    return False


def _bent_unit_tests(kinds: Sequence[set[str]]) -> list[str]:
    found = []
    for number, kind in enumerate(kinds, 1):
        if number == 1 and "unit_test_generator" in kind:
            found.append("layer 1 writes unit tests, where the paper has generators first; the tests are shown to them")
        before = kinds[number - 2] if number > 1 else set()
        if "unit_test_evaluator" in kind and "unit_test_generator" not in before:
            found.append(
                f"the evaluator in layer {number} does not directly follow the unit tests, as the paper asks for"
            )
    first = next((n for n, kind in enumerate(kinds) if "unit_test_generator" in kind), len(kinds))
    shown = sorted({name for kind in kinds[first + 1 :] for name in kind} - {"generator", "unit_test_evaluator"})
    if shown:
        found.append(
            f"the unit tests are shown to generators and evaluators alone; Archon's code puts them into the question, "
            f"where {', '.join(shown)} would read them too"
        )
    return found


def _old_critiques(kinds: Sequence[set[str]]) -> list[str]:
    """Find layers to which Archon's code shows critiques of candidates that are no longer there."""
    found = []
    written: int | None = None
    replaced = False
    for number, kind in enumerate(kinds, 1):
        if written is not None and replaced and kind & {"fuser", "ranker"}:
            found.append(
                f"layer {number} would be shown the critiques of layer {written} beside candidates they were not "
                "written about; here a critique stays with its candidate"
            )
        if "critic" in kind:
            written, replaced = number, False
        elif kind & _MAKERS:
            replaced = True
    return found


def _several_at_the_end(layers: Sequence[Sequence[Component]], kinds: Sequence[set[str]]) -> list[str]:
    if kinds[-1] & _MAKERS:
        several = len(layers[-1]) > 1 or layers[-1][0].settings.get("samples", 1) != 1
    else:
        one = [c.settings.get("top_k") == 1 or c.settings.get("first_k") == 1 for c in layers[-1]]
        several = not all(one) and not any(c.settings.get("first_pass") for c in layers[-1])
    if not several:
        return []
    return ["several candidates may be left at the end; the first is the answer, where Archon's code picks any of them"]
