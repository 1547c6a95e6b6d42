"""The book of models: `models.yaml`, the built-in providers, and the way from a name to a `ModelSpec`.

    models:
      fast: openai/gpt-4o-mini                    # another name for a built-in model
      capped:                                     # a built-in model with settings of its own
        use: openai/gpt-4o-mini
        defaults: {temperature: 0.2, max_tokens: 400}
      local:                                      # a compatible server
        transport: openai
        model: Qwen/Qwen2.5-7B-Instruct
        base_url: http://127.0.0.1:8000/v1
        price: {prompt: 0.02, completion: 0.06}   # dollars per million tokens
        limits: {in_flight: 128, timeout_s: 120}
        capabilities: {prefix_continuation: true}
      shared:                                     # several servers of one model, paid by the hour
        transport: openai
        model: Qwen/Qwen2.5-7B-Instruct
        usd_per_hour: 2.5                         # each; one endpoint may differ
        endpoints:
          - {base_url: "http://gpu-1:8000/v1"}
          - {base_url: "http://gpu-2:8000/v1", api_key_env: GPU_2_KEY, limits: {in_flight: 32}}
      hurried:                                  # batches of up to 5,000 requests, with --batch
        use: openai/gpt-4o-mini
        batch: {rows: 5000}
      "recorded/*":                               # every model of a recording: recorded/gpt-4o, …
        transport: replay
        replay: {path: "${DATA}/outputs.jsonl.gz", text: [outputs, "{model}", text]}
    budgets:                                      # caps beside those of a command; see `providers.caps`
      day: {dollars: 5}

The fields are those of `ModelSpec`. Keys stand in environment variables, named by `api_key_env`. What the file leaves
open of a model's capabilities is taken from what `colonnade models check` found (`providers.found`), then assumed.
Models that `colonnade serve-model` runs at present are known by their alias, unless the file has that alias.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from db.errors import ConfigError, SpecError, did_you_mean
from providers.builtin import built_in, suggestions
from providers.caps import Budgets, read_budgets
from providers.found import Found
from providers.models import Address, BatchSettings, Capabilities, Defaults, Limits, ModelSpec, ReplaySource
from providers.prices import Price, listed
from providers.registry import require_transport
from providers.scrub import remember
from providers.served import SERVED_PATH, served_entries

__all__ = ["MODELS_VARIABLE", "ModelBook"]

MODELS_VARIABLE = "COLONNADE_MODELS"

_TOP = ("models", "budgets")
_SECTIONS: Mapping[str, type[BaseModel]] = {
    "batch": BatchSettings,
    "capabilities": Capabilities,
    "defaults": Defaults,
    "endpoints": Address,
    "limits": Limits,
    "price": Price,
    "replay": ReplaySource,
}
_SECRETS = frozenset({"api_key", "apikey", "authorization", "bearer", "key", "password", "secret", "token"})


class ModelBook:
    """Aliases of a models file and the built-in providers; resolving makes no call and needs no key."""

    def __init__(
        self,
        aliases: Mapping[str, ModelSpec] | None = None,
        *,
        path: Path | None = None,
        env: Mapping[str, str] = os.environ,
        found: Found | None = None,
        budgets: Budgets | None = None,
    ) -> None:
        self.path = path
        self.budgets = budgets or Budgets()
        """Caps on runs, days and keys."""
        self._aliases = dict(aliases or {})
        self._env = env
        self._found = found or Found()
        self._resolved: dict[str, ModelSpec] = {}

    @classmethod
    def load(cls, path: Path | None = None, env: Mapping[str, str] = os.environ) -> ModelBook:
        """Read the file named by `path`, by `COLONNADE_MODELS`, or `./models.yaml`; without one, the built-ins alone.

        Raises `SpecError` that names the file, the alias and the key, and `ConfigError` where a named file is absent.
        """
        named = path or (Path(env[MODELS_VARIABLE]) if env.get(MODELS_VARIABLE) else None)
        file = named or Path("models.yaml")
        if not file.is_file():
            if named is not None:
                raise ConfigError(f"The models file {file} is not there; give another one or unset {MODELS_VARIABLE}.")
            return cls(_served(env), env=env, found=Found.load())
        data = _data(file)
        return cls(
            {**_served(env), **_read(file, data, env)},
            path=file,
            env=env,
            found=Found.load(),
            budgets=read_budgets(str(file), data.get("budgets")),
        )

    def names(self) -> tuple[str, ...]:
        """Name the aliases."""
        return tuple(sorted(self._aliases))

    def resolve(self, name: str) -> ModelSpec:
        """Return what is known of an alias or a `provider/name`; raises `ConfigError` with the nearest known name."""
        spec = self._resolved.get(name)
        if spec is None:
            spec = self._aliases.get(name) or self._by_pattern(name) or built_in(name, self._env)
            if spec is None:
                where = f" in {self.path}" if self.path else ""
                raise ConfigError(f"Unknown model '{name}'{where}.{self._nearest(name)}")
            spec = self._found.completed(spec)
            self._resolved[name] = spec
        return spec

    def check(self, names: Iterable[str]) -> None:
        """Resolve every name, see that its transport exists and its key is set, without the network.

        Raises `ConfigError`.
        """
        for name in names:
            spec = self.resolve(name)
            require_transport(spec)
            for replica in spec.replicas():
                self.api_key(replica)

    def api_key(self, spec: ModelSpec) -> str | None:
        """Return the key of a model from its variable; raises `ConfigError` where the variable is not set."""
        if spec.api_key_env is None:
            return None
        key = self._env.get(spec.api_key_env, "").strip()
        if not key.isascii() or not key.isprintable():
            raise ConfigError(f"The key in {spec.api_key_env} holds characters that no key has; set it again.")
        if not key:
            raise ConfigError(
                f"The model '{spec.name}' needs a key: set the environment variable {spec.api_key_env}, "
                f"or choose a model that needs none, such as embedded/mini."
            )
        remember(key)
        return key

    def _by_pattern(self, name: str) -> ModelSpec | None:
        for alias, spec in self._aliases.items():
            if alias.endswith("/*") and name.startswith(alias[:-1]) and len(name) > len(alias) - 1:
                model = spec.model.replace("*", name[len(alias) - 1 :])
                identity = spec.identity.replace("*", name[len(alias) - 1 :])
                return spec.model_copy(update={"name": name, "model": model, "identity": identity})
        return None

    def _nearest(self, name: str) -> str:
        known = [alias for alias in self._aliases if not alias.endswith("/*")]
        return did_you_mean(name, [*known, *suggestions(name)])


def _data(file: Path) -> dict[str, object]:
    import yaml

    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise SpecError(f"{file}{line}: not valid YAML ({getattr(error, 'problem', None) or 'unreadable'}).") from None
    except UnicodeDecodeError:
        raise SpecError(f"{file}: not a text file in UTF-8.") from None
    if not isinstance(data, dict) or not isinstance(data.get("models"), dict):
        raise SpecError(f"{file}: must hold a mapping 'models:' from alias to settings.")
    unknown = [str(key) for key in data if key not in _TOP]
    if unknown:
        near = did_you_mean(unknown[0], _TOP)
        raise SpecError(f"{file}: unknown key '{unknown[0]}' at the top; {' and '.join(_TOP)} stand there.{near}")
    return data


def _read(file: Path, data: Mapping[str, object], env: Mapping[str, str]) -> dict[str, ModelSpec]:
    models = _mapping(data["models"])
    return {str(alias): _entry(file, str(alias), entry, env) for alias, entry in models.items()}


def _served(env: Mapping[str, str]) -> dict[str, ModelSpec]:
    return {alias: _entry(SERVED_PATH, alias, entry, env) for alias, entry in served_entries().items()}


def _entry(file: Path, alias: str, entry: object, env: Mapping[str, str]) -> ModelSpec:
    place = f"{file}: model '{alias}'"
    if isinstance(entry, str):
        entry = {"use": entry}
    if not isinstance(entry, dict):
        raise SpecError(f"{place}: must be a mapping of settings or the name of a model.")
    _refuse_secrets(place, entry)
    settings = _on_top_of_base(place, alias, dict(entry), env)
    settings["name"] = alias
    replay = settings.get("replay")
    if isinstance(replay, dict):
        settings["replay"] = _located(replay, file, env)
    settings["settled"] = tuple(_mapping(entry.get("capabilities")))
    try:
        spec = ModelSpec.model_validate(settings)
    except ValidationError as error:
        raise SpecError(f"{place}: {_explained(error)}") from None
    return _completed(spec, entry)


def _on_top_of_base(place: str, alias: str, entry: dict[str, object], env: Mapping[str, str]) -> dict[str, object]:
    """Fill in what the built-in model named by `use`, or else the transport, implies."""
    base = entry.pop("use", None)
    if base is None:
        return _on_top_of_transport(alias, entry, env)
    spec = built_in(str(base), env)
    if spec is None:
        near = did_you_mean(str(base), suggestions(str(base)))
        raise SpecError(f"{place}: unknown model '{base}' under 'use'.{near}")
    merged = spec.model_dump(exclude={"name"})
    if "endpoints" in entry:
        merged.update(base_url=None)
        entry["endpoints"] = _addressed(entry["endpoints"], spec.base_url, spec.api_key_env)
    if "usd_per_hour" in entry:
        merged.update(price=None)
    if {"base_url", "endpoints", "model", "transport"} & entry.keys():
        # Another endpoint is another model: neither its samples nor its price are those of the base.
        merged.update(identity="", price=None)
    if {"base_url", "endpoints"} & entry.keys():
        # A key is not sent to an address that it was not meant for, and another server may have no batch API.
        merged.update(api_key_env=None, batch=None)
    for key, value in entry.items():
        inner = merged.get(key)
        merged[key] = {**inner, **value} if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _on_top_of_transport(alias: str, entry: dict[str, object], env: Mapping[str, str]) -> dict[str, object]:
    transport = entry.get("transport")
    model = entry.setdefault("model", "*" if alias.endswith("/*") else alias)
    capabilities = _mapping(entry.get("capabilities"))
    if transport == "embedded":
        spec = built_in(f"embedded/{model}", env)
        return {**(spec.model_dump(exclude={"name"}) if spec else {}), **entry}
    if transport == "openai":
        entry["capabilities"] = {"n": True, "logprobs": True, "top_logprobs": True, "seed": True, **capabilities}
        own = env.get("OPENAI_BASE_URL") or None
        if "endpoints" in entry:
            entry["endpoints"] = _addressed(entry["endpoints"], own, entry.get("api_key_env") or "OPENAI_API_KEY")
        elif entry.get("base_url") is None:
            entry.setdefault("api_key_env", "OPENAI_API_KEY")
            entry["base_url"] = own
            if own is None and entry.get("batch", {}) is not None:
                entry["batch"] = {"api": "openai", **_mapping(entry.get("batch"))}
    if transport == "replay":
        entry["capabilities"] = {"n": True, "stop": False, **capabilities}
    return entry


def _addressed(endpoints: object, base_url: str | None, key_variable: object) -> object:
    """Give endpoints without an address the provider's own, and its key, which goes to no other address."""
    if not isinstance(endpoints, list):
        return endpoints
    own = {"base_url": base_url, "api_key_env": key_variable}
    return [{**own, **one} if isinstance(one, dict) and one.get("base_url") is None else one for one in endpoints]


def _mapping(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, dict) else {}


def _completed(spec: ModelSpec, entry: Mapping[str, object]) -> ModelSpec:
    """Add identity and, for hosted models at their own address, the listed price."""
    found = None
    if spec.transport == "litellm" and "/" in spec.model:
        found = listed(*spec.model.split("/", 1))
    elif spec.transport == "openai" and all(one.base_url is None for one in spec.replicas()):
        found = listed("openai", spec.model)
    update: dict[str, object] = {}
    if not spec.identity:
        update["identity"] = default_identity(spec)
    if found is not None:
        if not spec.priced and "price" not in entry:
            update["price"] = found.price
        update["context"] = spec.context or found.context
        update["max_output"] = spec.max_output or found.max_output
    return spec.model_copy(update=update) if update else spec


def default_identity(spec: ModelSpec) -> str:
    """Return transport, remote model and address, which is what tells one model from another.

    Of several endpoints the first one stands for all, so that samples stay when further ones are added.
    """
    first = spec.replicas()[0].base_url
    at = f"@{first}" if first else ""
    source = f"@{spec.replay.path.name}" if spec.replay else ""
    return f"{spec.transport}/{spec.model}{at}{source}"


def _located(replay: Mapping[str, object], file: Path, env: Mapping[str, str]) -> dict[str, object]:
    located = dict(replay)
    path = str(located.get("path", ""))
    for name, value in env.items():
        path = path.replace(f"${{{name}}}", value)
    located["path"] = file.parent / Path(path).expanduser() if path else ""
    return located


def _refuse_secrets(place: str, entry: Mapping[str, object]) -> None:
    for key, value in entry.items():
        if str(key).lower().replace("-", "_") in _SECRETS and isinstance(value, str):
            raise SpecError(
                f"{place}: a key must not stand in the file (under '{key}'); put it into an environment variable and "
                f"write api_key_env: NAME_OF_THE_VARIABLE."
            )
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                _refuse_secrets(place, inner)


def _explained(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = [str(part) for part in first["loc"]]
    where = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = list(_SECTIONS[place[0]].model_fields) if len(place) > 1 else [*ModelSpec.model_fields, "use"]
        return f"unknown key '{where}'.{did_you_mean(place[-1], known)}"
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"'{where}': {message}." if where else f"{message}."
