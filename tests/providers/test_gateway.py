"""The gateway against a real server: never paid twice, durable before use, within the budget."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from db.calls import CallStore
from db.errors import BudgetExceeded, ConfigError
from providers import Amount, Budget, Gateway, Message, ModelBook, Request, Sampling
from providers.errors import AuthError, BadRequest, ContentFiltered, ContextLengthExceeded
from providers.gateway import CacheMode
from providers.testing_server import ModelServer
from tests.providers.asking import book_of, request, scope


async def test_samples_come_in_order_and_are_shared_by_index(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer() as server, Gateway(book_of(server, tmp_path), store) as gateway:
        one = await gateway.ask(request(), 3, scope=scope(), node="a")
        assert [sample.index for sample in one.samples] == [0, 1, 2]
        assert len({sample.completion.text for sample in one.samples}) == 3
        again = scope("2")
        first = await gateway.ask(request(), 2, scope=again, node="b")
        rest = await gateway.ask(request(), 3, scope=again, node="c")
        texts = [sample.completion.text for sample in (*first.samples, *rest.samples)]
        assert texts[:3] == [sample.completion.text for sample in one.samples]
        assert [sample.cached for sample in (*first.samples, *rest.samples)] == [True, True, True, False, False]
        assert server.ledger.calls == 5
        assert server.ledger.requests == 2, "pending samples of one request go out as one"
        assert gateway.status().cached_calls == 3
        assert gateway.status().paid.calls == 5


async def test_a_new_process_finds_what_was_paid(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer() as server:
        book = book_of(server, tmp_path)
        async with Gateway(book, store) as gateway:
            paid = await gateway.ask(request(top_logprobs=2, max_tokens=6), 2, scope=scope(), node="a")
        async with Gateway(book, store) as gateway:
            other = scope(run="r-2")
            found = await gateway.ask(request(top_logprobs=2, max_tokens=6), 2, scope=other, node="a")
            same = scope()
            resumed = await gateway.ask(request(top_logprobs=2, max_tokens=6), 2, scope=same, node="a")
        assert [s.completion for s in found.samples] == [s.completion for s in paid.samples]
        assert found.samples[0].completion.logprobs
        assert [s.cost for s in found.samples] == [s.cost for s in paid.samples]
        assert other.totals().paid_calls == 0
        assert all(s.cached for s in found.samples)
        assert not any(s.cached for s in resumed.samples), "what this run had bought before counts as bought"
        assert same.totals().paid_cost == sum(s.cost or 0 for s in paid.samples)
        assert server.ledger.requests == 1


async def test_costs_and_tokens_equal_the_servers_ledger(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer() as server, Gateway(book_of(server, tmp_path), store) as gateway:
        mine = scope()
        for n in (1, 4, 7):
            await gateway.ask(request(f"question {n}"), n, scope=mine, node="a")
        totals, ledger = mine.totals(), server.ledger
        assert (totals.paid_prompt_tokens, totals.paid_completion_tokens) == (
            ledger.prompt_tokens,
            ledger.completion_tokens,
        )
        dollars = (ledger.prompt_tokens * Decimal(1) + ledger.completion_tokens * Decimal(2)) / 1_000_000
        assert totals.paid_cost == totals.cost == dollars == store.spent("r-1").cost


async def test_an_unknown_price_is_none(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer() as server, Gateway(book_of(server, tmp_path, "style: default"), store) as gateway:
        mine = scope()
        asked = await gateway.ask(request(), scope=mine, node="a")
        assert asked.samples[0].cost is None
        assert mine.totals().cost is None
        assert gateway.status().paid.cost is None


async def test_identical_requests_in_flight_are_paid_once(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer(latency_s=0.05) as server, Gateway(book_of(server, tmp_path), store) as gateway:
        scopes = [scope(str(item)) for item in range(20)]
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(gateway.ask(request(), 2, scope=one, node="a")) for one in scopes]
        assert server.ledger.calls == 2
        assert len({task.result().samples[1].completion.text for task in asked}) == 1
        assert sum(one.totals().paid_calls for one in scopes) == 2
        assert gateway.status().cached_calls == 38


async def test_overlapping_requests_share_what_overlaps(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer(latency_s=0.05) as server, Gateway(book_of(server, tmp_path), store) as gateway:
        async with asyncio.TaskGroup() as tasks:
            few = tasks.create_task(gateway.ask(request(), 2, scope=scope("1"), node="a"))
            many = tasks.create_task(gateway.ask(request(), 5, scope=scope("2"), node="a"))
        assert server.ledger.calls == 5
        assert many.result().samples[0].completion == few.result().samples[0].completion


async def test_first_names_the_index(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer() as server, Gateway(book_of(server, tmp_path), store) as gateway:
        mine = scope()
        late = await gateway.ask(request(), 2, scope=mine, node="a", first=5)
        assert [sample.index for sample in late.samples] == [5, 6]
        early = await gateway.ask(request(), 1, scope=mine, node="a")
        assert early.samples[0].index == 0


async def test_indices_are_taken_before_the_first_await(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer() as server, Gateway(book_of(server, tmp_path), store) as gateway:
        mine = scope()
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(gateway.ask(request(), 2, scope=mine, node="a")) for _ in range(4)]
        assert [[s.index for s in task.result().samples] for task in asked] == [[0, 1], [2, 3], [4, 5], [6, 7]]


async def test_fresh_is_a_sequence_of_its_own(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer() as server, Gateway(book_of(server, tmp_path), store) as gateway:
        old = await gateway.ask(request(), scope=scope(), node="a")
        new = await gateway.ask(request(), scope=scope(fresh="final"), node="a")
        assert old.samples[0].key != new.samples[0].key
        assert server.ledger.calls == 2


async def test_an_abandoned_caller_does_not_harm_those_who_wait_with_it(tmp_path: Path, store: CallStore) -> None:
    budget = Budget(calls=10)
    async with (
        ModelServer(script=["timeout"]) as server,  # the owner's request, which gets no answer
        Gateway(book_of(server, tmp_path), store, budget=budget) as gateway,
    ):
        owner = asyncio.create_task(gateway.ask(request(), 2, scope=scope("1"), node="a"))
        while not server.ledger.faults["timeout"]:  # noqa: ASYNC110 - the server counts, it does not call
            await asyncio.sleep(0.001)
        waiter = asyncio.create_task(gateway.ask(request(), 2, scope=scope("2"), node="a"))
        await asyncio.sleep(0.03)
        assert server.ledger.requests == 1
        owner.cancel()
        with pytest.raises(asyncio.CancelledError):
            await owner
        assert len((await waiter).samples) == 2
        assert budget.reserved == Amount()
        assert budget.settled.calls == 2
        assert gateway.status().uncertain == 1
        assert gateway.status().in_flight == 0


async def test_a_cancelled_waiter_does_not_harm_the_owner(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer(latency_s=0.08) as server, Gateway(book_of(server, tmp_path), store) as gateway:
        owner = asyncio.create_task(gateway.ask(request(), 2, scope=scope("1"), node="a"))
        await asyncio.sleep(0.02)
        waiter = asyncio.create_task(gateway.ask(request(), 2, scope=scope("2"), node="a"))
        await asyncio.sleep(0.02)
        waiter.cancel()
        assert len((await owner).samples) == 2
        assert server.ledger.calls == 2


async def test_fewer_choices_than_asked_are_made_up_for(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer(script=("fewer-choices",)) as server, Gateway(book_of(server, tmp_path), store) as gateway:
        mine = scope()
        asked = await gateway.ask(request(), 6, scope=mine, node="a")
        assert [sample.index for sample in asked.samples] == list(range(6))
        assert (server.ledger.requests, server.ledger.calls) == (2, 6)
        assert mine.totals().prompt_tokens == server.ledger.prompt_tokens


async def test_a_server_that_overlooks_n_is_asked_one_by_one(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer(script=("fewer-choices",)) as server, Gateway(book_of(server, tmp_path), store) as gateway:
        await gateway.ask(request(), 2, scope=scope(), node="a")
        await gateway.ask(request("another"), 4, scope=scope(), node="a")
        assert server.ledger.requests == 2 + 4


async def test_without_n_every_sample_is_a_request(tmp_path: Path, store: CallStore) -> None:
    more = "capabilities: {n: false}"
    async with ModelServer(meet=5) as server, Gateway(book_of(server, tmp_path, more), store) as gateway:
        asked = await gateway.ask(request(), 5, scope=scope(), node="a")
        assert [sample.index for sample in asked.samples] == list(range(5))
        assert (server.ledger.requests, server.ledger.most_at_once) == (5, 5)


async def test_seeds_number_the_samples_whatever_is_asked_together(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer() as server:
        book = book_of(server, tmp_path)
        async with Gateway(book, None) as gateway:
            whole = await gateway.ask(request(seed=7), 6, scope=scope(), node="a")
        async with Gateway(book, store) as gateway:
            await gateway.ask(request(seed=7), 1, scope=scope(), node="a", first=2)
            rest = await gateway.ask(request(seed=7), 6, scope=scope(), node="a")
        assert [s.completion.text for s in rest.samples] == [s.completion.text for s in whole.samples]
        assert server.ledger.requests == 1 + 1 + 2


async def test_an_endpoint_without_seeds_is_not_sent_one(tmp_path: Path, store: CallStore) -> None:
    sent: list[object] = []

    def note(asking: object) -> str:
        sent.append(getattr(asking, "body", {}).get("seed"))
        return "x"

    more = "capabilities: {seed: false}"
    async with ModelServer(reply=note) as server, Gateway(book_of(server, tmp_path, more), store) as gateway:
        one = await gateway.ask(request(seed=7), scope=scope(), node="a")
        two = await gateway.ask(request(seed=8), scope=scope(), node="a")
        assert sent == [None, None]
        assert one.samples[0].key != two.samples[0].key


@pytest.mark.parametrize(
    ("cache", "calls", "stored"), [("on", 2, 2), ("off", 4, 0), ("refresh", 2, 2), ("read-only", 2, 0)]
)
async def test_cache_modes(tmp_path: Path, store: CallStore, cache: CacheMode, calls: int, stored: int) -> None:
    async with ModelServer() as server, Gateway(book_of(server, tmp_path), store, cache=cache) as gateway:
        keys = []
        for item in "12":
            asked = await gateway.ask(request(), 2, scope=scope(item), node="a")
            keys = [sample.key for sample in asked.samples]
        assert server.ledger.calls == calls
        assert len(store.get(keys)) == stored


async def test_refresh_pays_anew_and_replaces(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer() as server:
        book = book_of(server, tmp_path)
        async with Gateway(book, store) as gateway:
            old = (await gateway.ask(request(), scope=scope(), node="a")).samples[0]
        async with Gateway(book, store, cache="refresh") as gateway:
            new = (await gateway.ask(request(), scope=scope(), node="a")).samples[0]
            gateway._memory = type(gateway._memory)()
            kept = (await gateway.ask(request(), scope=scope(), node="a")).samples[0]
        assert old.key == new.key
        assert old.completion.text != new.completion.text
        assert kept.completion == new.completion, "what was refreshed once is not refreshed again"
        async with Gateway(book, store, cache="read-only") as gateway:
            assert (await gateway.ask(request(), scope=scope(), node="a")).samples[0].completion == new.completion
        assert server.ledger.calls == 2


async def test_two_gateways_that_pay_for_one_sample_agree_on_the_first(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer(meet=2) as server:
        book = book_of(server, tmp_path)
        async with Gateway(book, store) as one, Gateway(book, store) as two, asyncio.TaskGroup() as tasks:
            asked = [
                tasks.create_task(gateway.ask(request(), 2, scope=scope(run=run), node="a"))
                for gateway, run in ((one, "r-1"), (two, "r-2"))
            ]
        texts = [[sample.completion.text for sample in task.result().samples] for task in asked]
        assert texts[0] == texts[1]
        assert server.ledger.calls == 4
        assert not any(sample.cached for task in asked for sample in task.result().samples), "both have paid"


async def test_a_failed_call_is_a_failure_with_its_class(tmp_path: Path, store: CallStore) -> None:
    async with (
        ModelServer(script=("bad-request", "context-length")) as server,
        Gateway(book_of(server, tmp_path), store) as gateway,
    ):
        mine = scope()
        refused = await gateway.ask(request(), 2, scope=mine, node="a")
        assert refused.samples == ()
        assert [type(error) for error in refused.failures] == [BadRequest, BadRequest]
        long = await gateway.ask(request("long"), scope=mine, node="b")
        assert [type(error) for error in long.failures] == [ContextLengthExceeded]
        assert [failure.node for failure in mine.failures] == ["a", "a", "b"]
        assert mine.totals().failures == gateway.status().failures == 3
        answered = await gateway.ask(request(), 1, scope=scope(), node="a")
        assert answered.samples[0].index == 0, "a failure was not cached"


async def test_a_filtered_answer_is_paid_but_never_cached(tmp_path: Path, store: CallStore) -> None:
    budget = Budget(calls=100)
    async with (
        ModelServer(script=("content-filter",)) as server,
        Gateway(book_of(server, tmp_path), store, budget=budget) as gateway,
    ):
        asked = await gateway.ask(request(), 2, scope=scope(), node="a")
        assert [type(error) for error in asked.failures] == [ContentFiltered, ContentFiltered]
        assert gateway.status().paid.completion_tokens == server.ledger.completion_tokens
        assert budget.settled.calls == 2
        assert (await gateway.ask(request(), 2, scope=scope(), node="a")).failures == ()


async def test_a_refused_key_raises(tmp_path: Path, store: CallStore) -> None:
    env = {"MY_KEY": "sk-wrong-key-0123456789"}
    async with ModelServer(api_key="sk-right") as server:
        book = book_of(server, tmp_path, "api_key_env: MY_KEY", env=env)
        async with Gateway(book, store) as gateway:
            with pytest.raises(AuthError) as caught:
                await gateway.ask(request(), scope=scope(), node="a")
            assert "sk-wrong" not in str(caught.value)
            with pytest.raises(ConfigError, match="key in MY_KEY was refused"):
                await gateway.preflight(["m"])


async def test_what_was_under_way_is_kept_when_something_ends_the_run(tmp_path: Path, store: CallStore) -> None:
    more = "capabilities: {n: false}"
    async with (
        ModelServer(script=(None, "401", None), latency_s=0.02) as server,
        Gateway(book_of(server, tmp_path, more), store) as gateway,
    ):
        mine = scope()
        with pytest.raises(AuthError):
            await gateway.ask(request(), 3, scope=mine, node="a")
        assert len(mine.samples) == server.ledger.calls == 2
        assert len(store.get([use.sample.key for use in mine.samples])) == 2


@pytest.mark.parametrize("n", [1, 3])
async def test_the_budget_holds_with_many_in_flight(tmp_path: Path, store: CallStore, n: int) -> None:
    cap = Decimal("0.002")
    budget = Budget(dollars=cap)
    async with ModelServer(latency_s=0.01) as server:
        async with Gateway(book_of(server, tmp_path), store, budget=budget) as gateway:

            async def one(number: int) -> bool:
                try:
                    await gateway.ask(request(f"{number}", max_tokens=40), n, scope=scope(str(number)), node="a")
                except BudgetExceeded:
                    return False
                return True

            async with asyncio.TaskGroup() as tasks:
                asked = [tasks.create_task(one(number)) for number in range(64)]
        done = [task.result() for task in asked]
        spent = (server.ledger.prompt_tokens + 2 * server.ledger.completion_tokens) / Decimal(1_000_000)
        assert spent == budget.settled.dollars <= cap
        assert budget.reserved == Amount()
        assert 0 < sum(done) < 64
        assert store.spent("r-1").cost == spent, "what was paid was kept"
        assert spent > cap / 2


async def test_a_budget_in_dollars_needs_a_price(tmp_path: Path, store: CallStore) -> None:
    budget = Budget(dollars=Decimal(1))
    async with ModelServer() as server:
        async with Gateway(book_of(server, tmp_path, "style: default"), store, budget=budget) as gateway:
            with pytest.raises(ConfigError, match=r"needs the price of 'm', which is unknown; give it in models.yaml"):
                await gateway.ask(request(max_tokens=5), scope=scope(), node="a")
            with pytest.raises(ConfigError, match="needs a bound on the answers of 'm'; give max_tokens"):
                await gateway.ask(request(), scope=scope(), node="a")
        assert server.ledger.requests == 0


async def test_a_budget_in_calls_needs_nothing(tmp_path: Path, store: CallStore) -> None:
    async with (
        ModelServer() as server,
        Gateway(book_of(server, tmp_path), store, budget=Budget(calls=2)) as gateway,
    ):
        await gateway.ask(request(), 2, scope=scope(), node="a")
        with pytest.raises(BudgetExceeded, match="calls: cap 2, used 2"):
            await gateway.ask(request("b"), scope=scope(), node="a")
        assert len((await gateway.ask(request(), 2, scope=scope(), node="a")).samples) == 2, "cached calls are free"


@pytest.mark.parametrize(
    ("sampling", "continued", "feature"),
    [
        (Sampling(top_logprobs=0), False, "logprobs"),
        (Sampling(stop=("x",)), False, "stop"),
        (Sampling(), True, "prefix_continuation"),
    ],
)
async def test_what_an_endpoint_lacks_is_refused(
    tmp_path: Path, store: CallStore, sampling: Sampling, continued: bool, feature: str
) -> None:
    more = "capabilities: {logprobs: false, stop: false}"
    asked = Request(model="m", messages=(Message("user", "x"),), sampling=sampling, continue_final=continued)
    async with ModelServer() as server, Gateway(book_of(server, tmp_path, more), store) as gateway:
        with pytest.raises(ConfigError, match=f"The model 'm' cannot do '{feature}'"):
            await gateway.ask(asked, scope=scope(), node="a")
        with pytest.raises(ConfigError, match="cannot do"):
            gateway._endpoints.of("m").require("prefix_continuation")


async def test_defaults_fill_in_what_is_left_open(tmp_path: Path, store: CallStore) -> None:
    bodies: list[dict[str, object]] = []

    def note(asking: object) -> str:
        bodies.append(getattr(asking, "body", {}))
        return "x"

    more = (
        "defaults: {temperature: 0.3, top_p: 0.9, max_tokens: 9, stop: [E], seed: 4}\n"
        "    extra_body: {top_k: 2}\n    capabilities: {prefix_continuation: true}"
    )
    async with ModelServer(reply=note) as server, Gateway(book_of(server, tmp_path, more), store) as gateway:
        asked = Request(model="m", messages=(Message("user", "q"), Message("assistant", "so far")), continue_final=True)
        await gateway.ask(asked, scope=scope(), node="a")
        await gateway.ask(request(temperature=0.0, max_tokens=3), scope=scope(), node="a")
    assert bodies[0] == {
        "model": "test-model",
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "so far"}],
        "temperature": 0.3,
        "top_p": 0.9,
        "max_tokens": 9,
        "stop": ["E"],
        "seed": 4,
        "top_k": 2,
        "continue_final_message": True,
        "add_generation_prompt": False,
    }
    assert (bodies[1]["temperature"], bodies[1]["max_tokens"]) == (0.0, 3)


async def test_the_limit_in_flight_is_kept_and_shared_by_aliases(tmp_path: Path, store: CallStore) -> None:
    (tmp_path / "models.yaml").write_text("models: {}")
    async with ModelServer(latency_s=0.01, meet=3) as server:
        entry = f"{{transport: openai, model: test-model, base_url: '{server.url}', limits: {{in_flight: 3}}}}"
        (tmp_path / "models.yaml").write_text(f"models:\n  a: {entry}\n  b: {entry}\n")
        book = ModelBook.load(tmp_path / "models.yaml", {})
        async with Gateway(book, store) as gateway, asyncio.TaskGroup() as tasks:
            for number in range(24):
                asked = request(str(number), model="ab"[number % 2])
                tasks.create_task(gateway.ask(asked, scope=scope(str(number)), node="n"))
        assert server.ledger.most_at_once == 3


async def test_two_aliases_of_one_model_share_samples(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer() as server:
        entry = f"{{transport: openai, model: test-model, base_url: '{server.url}'}}"
        (tmp_path / "models.yaml").write_text(f"models:\n  a: {entry}\n  b: {entry}\n")
        async with Gateway(ModelBook.load(tmp_path / "models.yaml", {}), store) as gateway:
            one = await gateway.ask(request(model="a"), scope=scope(), node="n")
            two = await gateway.ask(request(model="b"), scope=scope("2"), node="n")
        assert one.samples[0].key == two.samples[0].key
        assert (one.samples[0].model, two.samples[0].model) == ("a", "b")
        assert server.ledger.calls == 1


async def test_preflight(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer(models=("test-model", "test-mode")) as server:
        async with Gateway(book_of(server, tmp_path), store) as gateway:
            await gateway.preflight(["m", "m", "embedded/nano"])
            assert gateway.spec("m").model == "test-model"
        book = book_of(server, tmp_path, "identity: x", env={})
        wrong = ModelBook({"w": book.resolve("m").model_copy(update={"name": "w", "model": "test-moddel"})}, env={})
        async with Gateway(wrong, store) as gateway:
            with pytest.raises(ConfigError, match=r"does not serve 'test-moddel'.*Did you mean 'test-model'"):
                await gateway.preflight(["w"])
    async with Gateway(ModelBook(env={"VLLM_BASE_URL": "http://127.0.0.1:9/v1"}), store) as gateway:
        with pytest.raises(ConfigError, match=r"'vllm/x' \(http://127.0.0.1:9/v1\) cannot be reached.*VLLM_BASE_URL"):
            await gateway.preflight(["vllm/x"])
    async with ModelServer(api_key="k") as server, Gateway(book_of(server, tmp_path), store) as gateway:
        with pytest.raises(ConfigError, match="wants a key; name its variable as api_key_env"):
            await gateway.preflight(["m"])


async def test_an_endpoint_without_a_list_of_models_is_taken_at_its_word(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer() as server:
        book = book_of(server, tmp_path)
        odd = ModelBook({"m": book.resolve("m").model_copy(update={"base_url": server.url + "/nothing"})}, env={})
        async with Gateway(odd, store) as gateway:
            assert await gateway._endpoints.of("m").transport.list_models() == ("test-model",)
        odd = ModelBook(
            {"m": book.resolve("m").model_copy(update={"base_url": server.url.removesuffix("/v1") + "/ledger?x="})},
            env={},
        )
        async with Gateway(odd, store) as gateway:
            await gateway.preflight(["m"])


async def test_an_unknown_transport_names_the_nearest(store: CallStore) -> None:
    spec = ModelBook(env={}).resolve("embedded/nano").model_copy(update={"transport": "opneai"})
    async with Gateway(ModelBook({"x": spec}, env={}), store) as gateway:
        with pytest.raises(ConfigError, match=r"unknown transport 'opneai'.*Did you mean 'openai'"):
            await gateway.ask(request(model="x"), scope=scope(), node="n")


async def test_a_store_that_fails_is_heard_of(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer() as server, Gateway(book_of(server, tmp_path), store) as gateway:
        store._database.writer.close()
        with pytest.raises(ConfigError, match="was closed while a result was to be stored"):
            await gateway.ask(request(), 2, scope=scope(), node="a")
