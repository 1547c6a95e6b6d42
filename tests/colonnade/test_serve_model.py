"""`colonnade serve-model`, with a real server in vLLM's place that takes the same command line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from db.errors import ConfigError
from providers.book import ModelBook
from providers.serve import Gpu, ServeError, gpus, parallelism, plan_serving, serving
from providers.served import SERVED_PATH, register, served_entries, unregister
from tests.conftest import CommandResult

Cli = Callable[..., CommandResult]

STAND_IN = f"""#!{sys.executable}
import sys, time
from providers.testing_server import main
arguments = sys.argv[1:]
assert arguments[0] == "serve", arguments
value = lambda flag: arguments[arguments.index(flag) + 1]
if "--fail" in arguments:
    print("CUDA out of memory")
    sys.exit(3)
if "--sleep" in arguments:
    time.sleep(60)
if "--brief" in arguments:
    import asyncio, os
    from providers.testing_server import ModelServer
    serve = ModelServer._serve
    def brief(server, request):
        # Once it has answered, however long it took to start.
        asyncio.get_running_loop().call_later(2.0, os._exit, 5)
        return serve(server, request)
    ModelServer._serve = brief
if "--deaf" in arguments:
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
main(["--port", value("--port"), "--models", value("--served-model-name")])
"""


@pytest.fixture
def vllm(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = workplace / "vllm-stand-in"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("COLONNADE_VLLM", str(program))
    return program


@pytest.fixture
def folder(workplace: Path) -> Path:
    made = workplace / "tiny"
    made.mkdir()
    (made / "config.json").write_text('{"num_attention_heads": 12}')
    return made


@pytest.fixture
def port() -> int:
    """Find a free port below those that the system gives away, which another test could be given in the meantime."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture
def command(vllm: Path, folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    arguments = [
        sys.executable,
        "-m",
        "colonnade",
        "serve-model",
        str(folder),
        "--port",
        str(port),
        "--",
        "--seed",
        "1",
    ]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_registers_and_stops(command: subprocess.Popen[str], cli: Cli, port: int, number: int) -> None:
    assert command.stdout is not None
    assert command.stdout.readline() == "tiny\n"
    spec = ModelBook.load().resolve("tiny")
    assert spec.base_url == f"http://127.0.0.1:{port}/v1"
    assert spec.capabilities.prefix_continuation
    asked = cli("run", "preset:single", "What is 2 + 3?", "--set", "model=tiny")
    assert asked.code == 0, asked.err
    command.send_signal(number)
    _, said = command.communicate(timeout=300)
    assert command.returncode == 0
    assert "--enable-prefix-caching --seed 1" in said
    assert "Stopped 'tiny'." in said
    assert served_entries() == {}
    with pytest.raises(ConfigError, match="Unknown model 'tiny'"):
        ModelBook.load().resolve("tiny")
    assert not _listens(port)


def test_a_server_that_ends_by_itself_is_no_success(command: subprocess.Popen[str]) -> None:
    assert command.stdout is not None
    command.stdout.readline()
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    _, said = command.communicate(timeout=300)
    assert command.returncode == 1
    assert "vLLM ended by itself with code -9" in said
    assert served_entries() == {}


def test_killed_it_leaves_no_server_behind(command: subprocess.Popen[str], port: int) -> None:
    assert command.stdout is not None
    command.stdout.readline()
    command.kill()
    command.communicate(timeout=300)
    deadline = time.monotonic() + 300
    while _listens(port):
        assert time.monotonic() < deadline, "the server lives on"
        time.sleep(0.05)
    assert served_entries() == {}, "its entry counts for nothing"


def test_what_a_failed_start_said_is_shown(vllm: Path, folder: Path, cli: Cli, port: int) -> None:
    done = cli("serve-model", folder, "--port", port, "--", "--fail")
    assert done.code == 2
    assert "vLLM ended with code 3" in done.err
    assert "CUDA out of memory" in done.err
    assert served_entries() == {}


def test_one_that_ends_soon_is_reported(vllm: Path, folder: Path, cli: Cli, port: int) -> None:
    done = cli("serve-model", folder, "--port", port, "--name", "brief", "--", "--brief")
    assert done.code == 1
    assert done.out == "brief\n"
    assert "vLLM ended by itself with code 5; see .colonnade/serve-brief.log" in done.err


async def test_one_that_never_answers_is_given_up(vllm: Path, folder: Path, port: int) -> None:
    plan = plan_serving(str(folder), port=port, flags=["--sleep"])
    with pytest.raises(ServeError, match=r"did not answer within 0\.5 s"):
        async with serving(plan, patience_s=0.5):
            pytest.fail("it does not answer")


async def test_one_that_is_deaf_is_killed(vllm: Path, folder: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.serve._GRACE_S", 0.2)
    async with serving(plan_serving(str(folder), port=port, flags=["--deaf"])) as server:
        process = server.process
        with pytest.raises(ConfigError, match=f"Port {port} is taken"):
            async with serving(plan_serving(str(folder), name="other", port=port)):
                pytest.fail("the port is taken")
    assert process.returncode == -signal.SIGKILL


async def test_cancelled_it_still_stops_its_server(vllm: Path, folder: Path, port: int) -> None:
    up = asyncio.Event()
    pids: list[int] = []

    async def serve() -> None:
        async with serving(plan_serving(str(folder), port=port)) as server:
            pids.append(server.process.pid)
            up.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await asyncio.wait_for(up.wait(), 300)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not Path(f"/proc/{pids[0]}").exists()


def test_without_vllm_the_cure_is_named(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = cli("serve-model", folder)
    assert done.code == 2
    assert "vLLM is not there ('vllm')" in done.err
    assert "COLONNADE_VLLM" in done.err
    assert "Traceback" not in done.err


def test_mistakes_in_the_command(vllm: Path, folder: Path, cli: Cli, workplace: Path) -> None:
    assert "no model folder" in cli("serve-model", workplace / "nothing").err
    done = cli("serve-model", folder, "--", "--port=9")
    assert done.code == 2
    assert "--port is Colonnade's to give" in done.err


def test_our_flags_give_way_to_the_users(vllm: Path, folder: Path) -> None:
    two = (Gpu(0, 80_000), Gpu(1, 80_000))
    (folder / "model.safetensors").write_bytes(bytes(2**10))
    command = plan_serving(str(folder), on=two).command
    assert command[1:3] == ("serve", str(folder))
    assert command[command.index("--data-parallel-size") + 1] == "2"
    assert "--tensor-parallel-size" not in command
    flags = ["--tensor-parallel-size=1", "--no-enable-prefix-caching"]
    command = plan_serving("org/model-7b", name="m", flags=flags, on=two).command
    assert command[2] == "org/model-7b"
    assert "--enable-prefix-caching" not in command
    assert [part for part in command if part.startswith("--tensor")] == flags[:1]


def test_copies_where_a_model_fits_one_gpu_else_split(folder: Path) -> None:
    four = tuple(Gpu(number, 1) for number in range(4))
    assert parallelism(folder, four[:1]) == {}
    assert parallelism(folder, four) == {"tensor": 4, "data": 1}, "of unknown size"
    weights = folder / "model.safetensors"
    weights.write_bytes(bytes(2**19))
    assert parallelism(folder, four) == {"tensor": 1, "data": 4}
    weights.write_bytes(bytes(2**20))
    assert parallelism(folder, four) == {"tensor": 2, "data": 2}
    (folder / "config.json").write_text('{"num_attention_heads": 9}')
    assert parallelism(folder, four) == {"tensor": 1, "data": 4}, (
        "9 heads cannot be halved: vLLM will say that it lacks room"
    )


def test_gpus_are_read_from_nvidia_smi(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = workplace / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, 81559'\necho '1, 81559'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{workplace}:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus() == (Gpu(0, 81559), Gpu(1, 81559))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpus() == (Gpu(1, 81559),)
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpus() == ()


def test_the_register_of_served_models(workplace: Path) -> None:
    entry = {"transport": "openai", "model": "x", "base_url": "http://127.0.0.1:9/v1"}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        register("m", entry, other.pid)
        with pytest.raises(ConfigError, match=f"'m' is served already \\(by process {other.pid}\\)"):
            register("m", entry, os.getpid())
        unregister("m", os.getpid())
        assert served_entries() == {"m": entry}
        (workplace / "models.yaml").write_text("models: {m: embedded/nano}")
        assert ModelBook.load().resolve("m").transport == "embedded", "models.yaml comes first"
    assert served_entries() == {}, "its process is gone"
    register("m", entry, os.getpid())
    assert served_entries() == {"m": entry}
    SERVED_PATH.write_text("models: 3")
    with pytest.raises(ConfigError, match=r"served\.yaml is damaged"):
        ModelBook.load()
