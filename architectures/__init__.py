"""Architectures: the spec and its checks, the compiler to LangGraph, the planner, presets, drawing, Archon import."""

from architectures.archon import Imported, load_archon
from architectures.check import Checked, check
from architectures.compile import CompiledArchitecture, compile_architecture
from architectures.draw_mermaid import draw_mermaid
from architectures.draw_svg import draw_svg
from architectures.load import Architecture, load
from architectures.outcome import Outcome
from architectures.plan import CallForecast, Dollars, NodeForecast, Plan, Quantities, plan
from architectures.planner import Speed
from architectures.preset import Parameter, Preset, preset, preset_info, preset_names
from architectures.spec import ArchitectureSpec
from architectures.trace import outcome_from_json, trace_json

__all__ = [
    "Architecture",
    "ArchitectureSpec",
    "CallForecast",
    "Checked",
    "CompiledArchitecture",
    "Dollars",
    "Imported",
    "NodeForecast",
    "Outcome",
    "Parameter",
    "Plan",
    "Preset",
    "Quantities",
    "Speed",
    "check",
    "compile_architecture",
    "draw_mermaid",
    "draw_svg",
    "load",
    "load_archon",
    "outcome_from_json",
    "plan",
    "preset",
    "preset_info",
    "preset_names",
    "trace_json",
]
