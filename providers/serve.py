"""`vllm serve` as a child: started with flags that suit the machine, watched until it answers, stopped at the end.

`COLONNADE_VLLM` names the program where it is not `vllm` on the PATH (vLLM is best kept in an environment of its own).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from db.errors import ConfigError
from providers.served import register, unregister

__all__ = [
    "VLLM_VARIABLE",
    "Gpu",
    "ServeError",
    "ServePlan",
    "Server",
    "gpus",
    "parallelism",
    "plan_serving",
    "serving",
]

VLLM_VARIABLE = "COLONNADE_VLLM"

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.5
_GRACE_S = 30.0
"""Seconds that the server has to end by itself before it is killed."""
_LAST_LINES = 15
_ROOM = 0.8
"""Share of a GPU's memory that weights may take; the rest is for the cache and activations."""


class ServeError(ConfigError):
    """The server ended, or did not answer in time."""


class Gpu(NamedTuple):
    """A GPU of this machine."""

    number: int
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServePlan:
    """A server to be started."""

    command: tuple[str, ...]
    model: str
    name: str
    """The name that it serves the model by."""
    alias: str
    """The name that Colonnade knows it by."""
    port: int
    log: Path

    @property
    def base_url(self) -> str:
        """Where it answers, `/v1` included."""
        return f"http://127.0.0.1:{self.port}/v1"

    def entry(self) -> dict[str, object]:
        """Return its settings in the form of models.yaml."""
        return {
            "transport": "openai",
            "model": self.name,
            "base_url": self.base_url,
            "capabilities": {"prefix_continuation": True, "logit_bias": True},
            "limits": {"in_flight": 256},
        }


class Server(NamedTuple):
    """A server that answers."""

    plan: ServePlan
    process: asyncio.subprocess.Process


def plan_serving(
    model: str,
    *,
    name: str | None = None,
    port: int = 8000,
    flags: Sequence[str] = (),
    env: Mapping[str, str] = os.environ,
    on: Sequence[Gpu] | None = None,
) -> ServePlan:
    """Return the command for a folder or a name on the hub; flags of the user's take the place of ours.

    Raises `ConfigError` where there is no vLLM or no such folder.
    """
    program = shlex.split(env.get(VLLM_VARIABLE, "")) or [shutil.which("vllm", path=env.get("PATH")) or ""]
    if not shutil.which(program[0] or "vllm", path=env.get("PATH")):
        raise ConfigError(
            f"vLLM is not there ('{program[0] or 'vllm'}'); install it in an environment of its own and name its "
            f"program in {VLLM_VARIABLE}, such as {VLLM_VARIABLE}=~/vllm/bin/vllm."
        )
    folder = Path(model).expanduser()
    if model.startswith((".", "/", "~")) and not (folder / "config.json").is_file():
        raise ConfigError(f"{folder} is no model folder: it holds no config.json.")
    served = name or folder.name
    split = parallelism(folder, gpus() if on is None else on)
    ours = {
        "--served-model-name": served,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--enable-prefix-caching": None,
        **{f"--{kind}-parallel-size": str(size) for kind, size in split.items() if size > 1},
    }
    given = {flag.split("=", 1)[0] for flag in flags}
    taken = sorted({"--served-model-name", "--port", "--host"} & given)
    if taken:
        raise ConfigError(f"{taken[0]} is Colonnade's to give; use --name and --port before the '--'.")
    if given & {"--no-enable-prefix-caching"}:
        del ours["--enable-prefix-caching"]
    parts = [part for flag, value in ours.items() if flag not in given for part in (flag, value) if part is not None]
    source = str(folder) if folder.is_dir() else model
    return ServePlan(
        command=(*program, "serve", source, *parts, *flags),
        model=source,
        name=served,
        alias=served,
        port=port,
        log=Path(".colonnade") / f"serve-{served.replace('/', '-')}.log",
    )


def gpus() -> tuple[Gpu, ...]:
    """Return the GPUs of this machine that this process may use, by `nvidia-smi`; none where that is not there."""
    import subprocess

    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = [program, "--query-gpu=index,memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    found = tuple(
        Gpu(*(int(part) for part in line.split(",")[:2])) for line in done.stdout.splitlines() if line[:1].isdigit()
    )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not found:
        return found
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return tuple(gpu for gpu in found if str(gpu.number) in names) or found[: len(names)]


def parallelism(folder: Path, on: Sequence[Gpu]) -> dict[str, int]:
    """Return how a model is spread over GPUs: as few for one copy as hold its weights, copies on all of them.

    A model whose size is not known (one of the hub) is spread over all: slower than copies, but it fits if any does.
    """
    import orjson

    if len(on) < 2:
        return {}
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors")) if folder.is_dir() else 0
    heads = 0
    if (folder / "config.json").is_file():
        heads = int(orjson.loads((folder / "config.json").read_bytes()).get("num_attention_heads") or 0)
    sizes = [size for size in range(1, len(on) + 1) if len(on) % size == 0 and (heads == 0 or heads % size == 0)]
    memory = min(gpu.memory_mib for gpu in on) * 2**20
    tensor = next((size for size in sizes if 0 < weights <= size * _ROOM * memory), sizes[-1])
    return {"tensor": tensor, "data": len(on) // tensor}


@asynccontextmanager
async def serving(plan: ServePlan, *, patience_s: float = 900.0) -> AsyncIterator[Server]:
    """Start a server, wait until it answers, register it, and stop it at the end, however that comes.

    Raises `ServeError` with the end of its log where it ends first, and where it does not answer in time.
    """
    if await _answers(plan):
        raise ConfigError(f"Port {plan.port} is taken by another server; give another --port.")
    register(plan.alias, plan.entry(), os.getpid())
    try:
        plan.log.parent.mkdir(parents=True, exist_ok=True)
        with plan.log.open("wb") as log:
            # A session of its own, so that Ctrl-C reaches it through us alone and all its workers can be stopped.
            process = await asyncio.create_subprocess_exec(
                *plan.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_ending_with(os.getpid()),
            )
        try:
            await _healthy(plan, process, patience_s)
            yield Server(plan, process)
        finally:
            await asyncio.shield(_stop(process))
    finally:
        unregister(plan.alias, os.getpid())


def _ending_with(parent: int) -> Callable[[], None] | None:
    """Return what has a child be stopped when its parent dies, even by `kill -9`; Linux alone can do that."""
    import ctypes

    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None
    if prctl is None:
        return None

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return tie


async def _healthy(plan: ServePlan, process: asyncio.subprocess.Process, patience_s: float) -> None:
    try:
        async with asyncio.timeout(patience_s):
            while not await _answers(plan):
                if process.returncode is not None:
                    raise ServeError(f"vLLM ended with code {process.returncode} before it answered.{_said(plan)}")
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise ServeError(f"vLLM did not answer within {patience_s:g} s.{_said(plan)}") from None


async def _answers(plan: ServePlan) -> bool:
    """Tell whether the server says it is healthy."""
    import aiohttp

    url = plan.base_url.removesuffix("/v1") + "/health"
    try:
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            return response.status < 500
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the server and all its workers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(_GRACE_S):
            await process.wait()
    except TimeoutError:
        pass  # It had its time.
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _said(plan: ServePlan) -> str:
    lines = plan.log.read_text(errors="replace").splitlines()[-_LAST_LINES:] if plan.log.is_file() else []
    return f" The end of {plan.log}:\n" + "\n".join(lines) if lines else ""
