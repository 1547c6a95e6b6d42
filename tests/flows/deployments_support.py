"""What a `prefect.yaml` asks for, checked without a server."""

from __future__ import annotations

from typing import Any

__all__ = ["flow_name", "job_of"]


def flow_name(deployment: dict[str, Any]) -> str:
    """Return the name of a deployment's flow; raises where its entrypoint is none."""
    from prefect.flows import load_flow_from_entrypoint

    return load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False).name


def job_of(deployment: dict[str, Any]) -> Any:
    """Return the job that a deployment gives to its flow, once its parameters are validated."""
    from prefect.flows import Flow, load_flow_from_entrypoint

    flow: Flow[..., Any] = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    return flow.validate_parameters(deployment["parameters"])["job"]
