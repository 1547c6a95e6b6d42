"""What deployments need beside the flows: keys out of Prefect's blocks, and evaluations that are new each time."""

from __future__ import annotations

import os

from prefect import flow
from prefect.runtime import flow_run

from flows.evaluate import EvaluateJob, Evaluation
from flows.prefect_flow import evaluate_flow

__all__ = ["evaluate_anew_flow", "set_environment"]


def set_environment(**values: str) -> dict[str, str]:
    """Set environment variables of the process that runs a flow: a pull step of a deployment.

    `OPENAI_API_KEY: "{{ prefect.blocks.secret.openai-api-key }}"` takes a key out of a block when the flow run begins.
    Unlike the variables of a work pool's job, which Prefect fills in at deployment, a pull step is stored as it is
    written, so the key stands in no deployment. Nothing is given back, since outputs of steps may be logged.
    """
    os.environ.update(values)
    return {}


@flow(name="evaluate-anew", persist_result=False)
async def evaluate_anew_flow(job: EvaluateJob) -> Evaluation:
    """Evaluate with samples of the flow run's own; see `flows.evaluate.evaluate`.

    The same job a second time would find its run done. Here the samples are named by the moment for which the flow run
    was scheduled, so that a schedule makes new ones and a flow run that is tried again goes on with its own.
    """
    series = f"{job.fresh} {flow_run.scheduled_start_time:%Y-%m-%dT%H:%M:%S.%fZ}".strip()
    return await evaluate_flow(job.model_copy(update={"fresh": series}))
