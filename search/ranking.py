"""Stage 0 of Archon's search: every model is measured alone in each role, and `best: k` then means the best k.

Archon (arXiv 2409.15254, section 3.3) ranks the models as generators and, apart from that, as fusers over the same
first candidates, since the two orders differ. The architectures that measure a model (`singles`) need not be points of
the space; those that are one serve the sampler `itas` within the search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from search.parameters import Choice, Parameter

if TYPE_CHECKING:
    from architectures.spec import ArchitectureSpec
    from providers.book import ModelBook
    from search.space import Space

__all__ = ["rank_models", "ranking"]


def ranking(space: Space, book: ModelBook | None = None) -> dict[str, dict[str, ArchitectureSpec]]:
    """Return what measures each model, by role and model, for the roles of which a parameter takes the best.

    A role of one model, and one without `singles`, is left out. Raises `SpecError` for a single that is none.
    """
    roles = {parameter.role for parameter in space.parameters if _takes_best(parameter)}
    return {
        role: {model: space.single(role, model, book) for model in models}
        for role, models in space.models.items()
        if role in roles and role in space.singles and len(models) > 1
    }


def rank_models(space: Space, role: str, values: Mapping[str, float]) -> Space:
    """Return the space with the models of a role in the order of their values, best first; equals stay in their order.

    Only which models are the best k changes: subsets and single choices are what they were. Raises `ValueError` for an
    unknown role, and where `values` are not those of its models.
    """
    if role not in space.models or values.keys() != {*space.models[role]}:
        raise ValueError(f"a ranking has a value for each model of a role, not {dict(values)} for {role!r}")
    order = tuple(sorted(space.models[role], key=lambda model: -values[model]))
    parameters = tuple(
        _reordered(parameter, order) if parameter.role == role and _takes_best(parameter) else parameter
        for parameter in space.parameters
    )
    return replace(space, models={**space.models, role: order}, parameters=parameters)


def _takes_best(parameter: Parameter) -> bool:
    return parameter.role is not None and parameter.kind == "number"


def _reordered(parameter: Parameter, order: tuple[str, ...]) -> Parameter:
    counts = [len(choice.value) for choice in parameter.choices if isinstance(choice.value, tuple)]
    return replace(parameter, choices=tuple(Choice(value=order[:count], label=str(count)) for count in counts))
