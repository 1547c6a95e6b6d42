"""`colonnade serve-model`: a local model behind vLLM for as long as the command runs."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from colonnade.cli.console import out, say

__all__ = ["serve_model"]


def serve_model(
    model: Annotated[str, typer.Argument(help="A model folder, or a name on the Hugging Face hub.")],
    flags: Annotated[list[str] | None, typer.Argument(help="After '--': further flags of vllm serve.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="The alias; else the last part of MODEL.")] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on 127.0.0.1.")] = 8000,
    wait: Annotated[
        float, typer.Option("--wait", min=1, metavar="SECONDS", help="How long it may take to start.")
    ] = 900,
) -> None:
    """Serve a model with vLLM on this machine's GPUs until Ctrl-C; meanwhile it is a model like those of models.yaml.

    Prints the alias once the server answers. COLONNADE_VLLM names the vllm program where it is not on the PATH.
    """
    from providers.serve import plan_serving, serving

    plan = plan_serving(model, name=name, port=port, flags=flags or ())

    async def run() -> int | None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if task is not None:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, task.cancel)
        say(f"Starting: {' '.join(plan.command)}")
        say(f"Its output goes to {plan.log}.")
        try:
            async with serving(plan, patience_s=wait) as server:
                out(plan.alias)
                say(f"'{plan.alias}' answers at {plan.base_url}; Ctrl-C stops it.")
                return await server.process.wait()
        except asyncio.CancelledError:
            return None

    code = asyncio.run(run())
    if code is None:
        say(f"Stopped '{plan.alias}'.")
    else:
        say(f"vLLM ended by itself with code {code}; see {plan.log}.")
        raise typer.Exit(1)
