"""Search over topologies: spaces, samplers, racing, and the statistics of what was found."""

from search.caps import Cap
from search.conclusion import Conclusion, conclude
from search.defaults import default_race
from search.domain import Domain
from search.finalists import Choice, choose
from search.holdout import ReusableHoldout
from search.marginal import Bills
from search.objective import Measured, Objective
from search.pareto import pareto_front
from search.pricing import PlannedSpace, plan_space
from search.racing import Job, Race, RaceState, rungs_for
from search.ranking import rank_models, ranking
from search.ready import load_space, read_space, space_data, space_names
from search.sampler import Sampler, make_sampler, sampler_names
from search.space import Space
from search.trials import Observation, StudyState, Trial

__all__ = [
    "Bills",
    "Cap",
    "Choice",
    "Conclusion",
    "Domain",
    "Job",
    "Measured",
    "Objective",
    "Observation",
    "PlannedSpace",
    "Race",
    "RaceState",
    "ReusableHoldout",
    "Sampler",
    "Space",
    "StudyState",
    "Trial",
    "choose",
    "conclude",
    "default_race",
    "load_space",
    "make_sampler",
    "pareto_front",
    "plan_space",
    "rank_models",
    "ranking",
    "read_space",
    "rungs_for",
    "sampler_names",
    "space_data",
    "space_names",
]
