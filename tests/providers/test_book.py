"""models.yaml and the names of models."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from db.errors import ConfigError, SpecError, UserError
from providers.book import ModelBook
from providers.models import ModelSpec

GOOD = """
models:
  fast:
    transport: openai
    model: llama
    base_url: http://127.0.0.1:8000/v1/
    price: {prompt: 0.02, completion: 0.08}
    limits: {in_flight: 8, timeout_s: 30}
    capabilities: {prefix_continuation: true}
    defaults: {temperature: 0.7, max_tokens: 512, stop: ["END"]}
    style: compact
    extra_body: {top_k: 5}
  strong: openai/gpt-4o-mini
  capped: {use: openai/gpt-4o-mini, defaults: {max_tokens: 10}, limits: {in_flight: 2}}
  elsewhere: {use: openai/gpt-4o-mini, base_url: "https://proxy.example/v1"}
  tiny: {transport: embedded, model: nano, defaults: {temperature: 0.5}}
  claude: {transport: litellm, model: anthropic/claude-haiku-4-5, api_key_env: MY_KEY}
  plain: {transport: openai, model: gpt-4o-mini}
  "recorded/*":
    transport: replay
    replay: {path: "${FOLDER}/answers.jsonl", text: [outputs, "{model}", text]}
"""


def book(tmp_path: Path, text: str, **env: str) -> ModelBook:
    path = tmp_path / "models.yaml"
    path.write_text(text, encoding="utf-8")
    return ModelBook.load(path, env)


def test_an_alias_has_what_the_file_says(tmp_path: Path) -> None:
    spec = book(tmp_path, GOOD).resolve("fast")
    assert spec.base_url == "http://127.0.0.1:8000/v1"
    assert spec.price is not None
    assert spec.price.prompt == Decimal("0.02")
    assert (spec.limits.in_flight, spec.limits.timeout_s, spec.limits.retries) == (8, 30.0, 5)
    assert spec.capabilities.has("prefix_continuation")
    assert spec.capabilities.has("n")
    assert (spec.defaults.temperature, spec.defaults.stop, spec.style) == (0.7, ("END",), "compact")
    assert spec.identity == "openai/llama@http://127.0.0.1:8000/v1"
    assert spec.api_key_env is None
    assert spec.hosted


def test_aliases_of_built_in_models_share_their_identity_until_the_address_differs(tmp_path: Path) -> None:
    models = book(tmp_path, GOOD)
    base = models.resolve("openai/gpt-4o-mini")
    assert base.identity == "openai/gpt-4o-mini"
    assert {models.resolve(name).identity for name in ("strong", "capped", "plain")} == {base.identity}
    assert {models.resolve(name).price for name in ("strong", "capped", "plain")} == {base.price}
    capped = models.resolve("capped")
    assert (capped.defaults.max_tokens, capped.limits.in_flight, capped.limits.timeout_s) == (10, 2, 600.0)
    elsewhere = models.resolve("elsewhere")
    assert elsewhere.identity == "openai/gpt-4o-mini@https://proxy.example/v1"
    assert elsewhere.price is None
    assert elsewhere.api_key_env is None, "a key is not sent to an address that it was not meant for"
    assert models.resolve("plain").api_key_env == "OPENAI_API_KEY"


def test_embedded_models_have_nominal_prices_and_the_compact_style(tmp_path: Path) -> None:
    models = book(tmp_path, GOOD)
    for name, prompt, completion in (("nano", "0.02", "0.08"), ("mini", "0.10", "0.40"), ("judge", "0.15", "0.60")):
        spec = models.resolve(f"embedded/{name}")
        assert spec.price is not None
        assert (spec.price.prompt, spec.price.completion) == (Decimal(prompt), Decimal(completion))
        assert spec.price.nominal
        assert (spec.style, spec.hosted) == ("compact", False)
    tiny = models.resolve("tiny")
    assert (tiny.defaults.temperature, tiny.style, tiny.context) == (0.5, "compact", 1024)
    assert tiny.price == models.resolve("embedded/nano").price


def test_a_pattern_gives_every_model_of_a_recording(tmp_path: Path) -> None:
    models = book(tmp_path, GOOD, FOLDER=str(tmp_path))
    spec = models.resolve("recorded/gpt-4o")
    assert (spec.name, spec.model) == ("recorded/gpt-4o", "gpt-4o")
    assert spec.identity == "replay/gpt-4o@answers.jsonl"
    assert spec.replay is not None
    assert spec.replay.path == tmp_path / "answers.jsonl"
    with pytest.raises(ConfigError):
        models.resolve("recorded/")


def test_litellm_reaches_the_other_providers(tmp_path: Path) -> None:
    models = ModelBook(env={})
    spec = models.resolve("anthropic/claude-haiku-4-5")
    assert (spec.transport, spec.model, spec.api_key_env) == (
        "litellm",
        "anthropic/claude-haiku-4-5",
        "ANTHROPIC_API_KEY",
    )
    assert spec.price is not None
    assert not spec.capabilities.has("n")
    assert models.resolve("bedrock/some.model").api_key_env is None
    assert models.resolve("groq/a-model-that-is-new").price is None
    assert book(tmp_path, GOOD).resolve("claude").price == spec.price


def test_addresses_come_from_the_environment() -> None:
    models = ModelBook(env={"OPENAI_BASE_URL": "http://localhost:9/v1/", "VLLM_BASE_URL": "http://gpu:8000/v1"})
    assert models.resolve("openai/gpt-4o").base_url == "http://localhost:9/v1"
    vllm = models.resolve("vllm/qwen")
    assert (vllm.base_url, vllm.api_key_env, vllm.price) == ("http://gpu:8000/v1", None, None)
    assert vllm.capabilities.has("prefix_continuation")
    official = ModelBook(env={"OPENAI_BASE_URL": "https://api.openai.com/v1"}).resolve("openai/gpt-4o")
    assert official.base_url is None
    assert ModelBook(env={}).resolve("vllm/qwen").base_url == "http://127.0.0.1:8000/v1"


def test_the_openai_address_of_the_environment_holds_for_aliases(tmp_path: Path) -> None:
    spec = book(tmp_path, GOOD, OPENAI_BASE_URL="http://localhost:9/v1").resolve("plain")
    assert spec.base_url == "http://localhost:9/v1"
    assert spec.price is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fats", "Unknown model 'fats' in .*Did you mean 'fast'"),
        ("embedded/minni", "Did you mean 'embedded/mini'"),
        ("openia/gpt-4o", "Did you mean 'openai/gpt-4o'"),
        ("antropic/claude", "Did you mean 'anthropic/claude'"),
        ("gpt-4o-mini", "Did you mean 'openai/gpt-4o-mini'"),
        ("replay/x", "Unknown model 'replay/x'"),
    ],
)
def test_an_unknown_model_names_the_nearest(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        book(tmp_path, GOOD).resolve(name)


def test_a_missing_key_names_model_and_variable(tmp_path: Path) -> None:
    models = book(tmp_path, GOOD, OPENAI_API_KEY="sk-1")
    models.check(["strong", "fast", "tiny"])
    assert models.api_key(models.resolve("strong")) == "sk-1"
    with pytest.raises(ConfigError, match="The model 'claude' needs a key: set the environment variable MY_KEY"):
        models.check(["strong", "claude"])


def test_a_key_is_stripped_and_one_that_cannot_be_sent_is_refused() -> None:
    spec = ModelBook(env={}).resolve("openai/gpt-4o")
    assert ModelBook(env={"OPENAI_API_KEY": " sk-1\n"}).api_key(spec) == "sk-1"
    for key in ("sk-\u20ac", "sk-1\nsk-2"):
        with pytest.raises(ConfigError, match="OPENAI_API_KEY holds characters") as caught:
            ModelBook(env={"OPENAI_API_KEY": key}).api_key(spec)
        assert "sk-" not in str(caught.value)


def test_an_unknown_transport_is_found_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'a' names an unknown transport 'opnai'.*Did you mean 'openai'"):
        book(tmp_path, "models:\n  a: {transport: opnai}").check(["a"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "models:\n  a: {transport: openai, modle: x}",
            "models.yaml: model 'a': unknown key 'modle'.*Did you mean 'model'",
        ),
        ("models:\n  a: {transport: openai, limits: {inflight: 2}}", "'limits.inflight'.*Did you mean 'in_flight'"),
        ("models:\n  a: {transport: openai, api_key: sk-very-secret-1}", "model 'a': a key must not stand in the file"),
        ("models:\n  a: {transport: openai, extra_body: {token: abc}}", "a key must not stand in the file"),
        ("models:\n  a: {transport: openai, api_key_env: sk-very-secret-1}", "must be the name of an environment"),
        ("models:\n  a: {transport: openai, base_url: localhost}", "must begin with http"),
        ("models:\n  a: {transport: openai, base_url: 'http://u:secret@h/v1'}", "no user name or password"),
        ("models:\n  a: {transport: openai, price: {prompt: -1, completion: 1}}", "'price.prompt'"),
        ("models:\n  a: {transport: replay}", "go together"),
        ("models:\n  a: {model: x}", "'transport'"),
        ("models:\n  a: {use: opnai/x}", "unknown model 'opnai/x' under 'use'"),
        ("models:\n  a: [1]", "must be a mapping of settings"),
        ("models:\n  a: {b: {", "line 2: not valid YAML"),
        ("models: []", "must hold a mapping 'models:'"),
        ("models: {}\nmodel: {}", "unknown key 'model' at the top"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        book(tmp_path, text)
    assert "models.yaml" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ModelBook.load(env={}).names() == ()
    (tmp_path / "models.yaml").write_text("models: {here: embedded/nano}")
    (tmp_path / "other.yaml").write_text("models: {there: embedded/nano}")
    assert ModelBook.load(env={}).names() == ("here",)
    assert ModelBook.load(env={"COLONNADE_MODELS": "other.yaml"}).names() == ("there",)
    assert ModelBook.load(Path("other.yaml"), {"COLONNADE_MODELS": "none.yaml"}).names() == ("there",)
    with pytest.raises(ConfigError, match=r"none.yaml is not there"):
        ModelBook.load(env={"COLONNADE_MODELS": "none.yaml"})
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="not a text file"):
        ModelBook.load(Path("binary.yaml"), {})


def test_an_empty_name_is_unknown() -> None:
    for name in ("", "openai/", "/x", "nowhere"):
        with pytest.raises(UserError):
            ModelBook(env={}).resolve(name)


def test_a_spec_is_frozen() -> None:
    spec = ModelBook(env={}).resolve("embedded/mini")
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"  # type: ignore[misc]  # that it cannot be set is what is tested
    assert ModelSpec.model_validate(spec.model_dump()) == spec
