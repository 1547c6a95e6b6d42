"""What a plan foretells is what a real server counts: calls exactly, tokens within the range that it states."""

from __future__ import annotations

from decimal import Decimal
from math import inf
from typing import Any

import pytest

from architectures.compile import compile_architecture
from architectures.estimator import BookEstimator, text_tokens
from architectures.parse import parse
from architectures.plan import ASSUMED_QUESTION, Plan, plan
from architectures.planner import Speed
from architectures.preset import preset, preset_names
from architectures.shapes import Part, Planned, join_parts
from architectures.spec import ArchitectureSpec
from nodes.base import ZERO, Range, Shape, exactly
from providers.base import Sampling
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.scope import Scope
from providers.testing_server import ModelServer
from tests.architectures.support import book_at

QUESTION = "A farmer has 12 hens; each lays 5 eggs a week. How many eggs are there after 3 weeks?"


def generate(model: object = "fast", **settings: object) -> dict[str, Any]:
    return {"generate": {"model": model, **settings}}


SHAPES: dict[str, Any] = {
    "single": [generate()],
    "samples and vote": [generate(samples=5), "vote"],
    "ten generators, rank 5, fuse": [
        [generate(["fast", "strong"], samples=3), generate("judge", samples=4)],
        {"rank": {"model": "judge", "keep": 5}},
        {"fuse": {"model": "strong"}},
    ],
    "critic, rank, fuse": [
        generate(["fast", "strong"], samples=4, temperature=0.8),
        {"critique": {"model": "strong"}},
        {"rank": {"model": "strong", "keep": 3}},
        {"fuse": {"model": "strong"}},
    ],
    "three layers of fusing": [
        generate(["fast", "strong"], samples=2),
        {"fuse": {"model": ["fast", "strong"], "samples": 2}},
        {"fuse": {"model": "strong"}},
    ],
    "verify, fuse": [generate(samples=3), {"verify": {"model": "judge"}}, {"fuse": {"model": "strong"}}],
    "unit tests": [
        {"unit_test_generate": {"model": "judge", "count": 5}},
        generate(samples=4, show_tests=True),
        {"unit_test_evaluate": {"model": "judge", "keep": 2}},
        {"fuse": {"model": "strong", "max_tokens": 99}},
    ],
    "judge and refine": [
        generate(samples=4),
        {"judge": {"model": "judge", "keep": 2}},
        {"refine": {"model": "strong"}},
    ],
    "pairwise": [generate(samples=4), {"rank": {"model": "judge", "method": "pairwise", "keep": 1}}],
    "five layers with a critique that goes along": [
        generate(samples=3, system="Be brief."),
        {"critique": {"model": "judge"}},
        {"rank": {"model": "judge", "keep": 2}},
        {"refine": {"model": "strong"}},
        {"fuse": {"model": "strong"}},
    ],
    "a loop of fixed length": [
        generate(samples=2),
        {"loop": {"max": 3, "body": [{"critique": {"model": "judge"}}, {"refine": {"model": "fast"}}]}},
    ],
    "a nested preset": [
        {"architecture": {"preset": "best-of-n", "with": {"model": "fast", "judge": "judge", "samples": 3}}},
        {"refine": {"model": "strong"}},
    ],
    "candidates that come two ways": {
        "nodes": {
            "a": {"use": "generate", "model": "fast", "samples": 3},
            "c": {"use": "critique", "model": "judge", "after": "a"},
            "j": {"use": "judge", "model": "judge", "after": "a"},
            "f": {"use": "refine", "model": "strong", "after": ["c", "j"]},
            "g": {"use": "judge", "model": "judge", "after": ["f", "a"]},
        }
    },
    "a condition on the number of candidates": {
        "nodes": {
            "a": {"use": "generate", "model": "fast", "samples": 3},
            "b": {"use": "refine", "model": "fast", "after": "a", "when": {"candidates": {"above": 2}}},
            "c": {"use": "refine", "model": "fast", "after": "b", "when": {"candidates": {"equals": 4}}},
            "d": {"use": "judge", "model": "judge", "after": ["a", "b", "c"]},
        }
    },
}


async def spent(spec: ArchitectureSpec, book: ModelBook) -> Scope:
    scope = Scope("r", "i")
    async with Gateway(book, None) as gateway:
        await compile_architecture(spec, book).run(QUESTION, gateway=gateway, scope=scope)
    return scope


@pytest.mark.parametrize("together", [True, False], ids=["n at once", "one by one"])
@pytest.mark.parametrize("name", SHAPES)
async def test_calls_and_requests_are_those_the_server_counts(name: str, together: bool, server: ModelServer) -> None:
    spec, book = parse(SHAPES[name]), book_at(server.url, n=together)
    foretold = plan(spec, book, QUESTION)
    scope = await spent(spec, book)
    ledger, total = server.ledger, foretold.total
    assert foretold.exact_calls
    assert total.calls == exactly(ledger.calls)
    assert total.requests.low == ledger.requests == total.requests.high
    assert total.prompt_tokens.low <= ledger.prompt_tokens <= total.prompt_tokens.high
    assert total.completion_tokens.low <= ledger.completion_tokens <= total.completion_tokens.high
    paid = scope.totals().cost
    assert paid is not None
    assert total.dollars is not None
    assert total.dollars.low <= paid <= total.dollars.high
    by_node: dict[str, int] = {}
    for use in scope.samples:
        node = ".".join(part for part in use.node.split(".") if not part.isdigit())
        by_node[node] = by_node.get(node, 0) + 1
    assert {n.id: n.quantities.calls.low for n in foretold.nodes if n.quantities.calls.high} == by_node


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_planned_exactly_with_a_price(name: str) -> None:
    foretold = plan(preset(name), ModelBook(env={}), QUESTION)
    # These two spend by need: how many calls they make depends on what the first ones say.
    assert foretold.exact_calls == (name not in ("consensus-then-long", "critique-revise"))
    assert foretold.total.dollars is not None
    assert Decimal(0) < foretold.total.dollars.low <= foretold.total.dollars.likely <= foretold.total.dollars.high
    assert foretold.candidates.high == 1


def conditional(**bounds: float) -> ArchitectureSpec:
    return parse(
        {
            "nodes": {
                "draft": {"use": "generate", "model": "fast", "samples": 3},
                "vote": {"use": "vote", "after": "draft"},
                "expert": {"use": "generate", "model": "strong", "after": "vote", "when": {"agreement": bounds}},
                "answer": {"use": "judge", "model": "judge", "after": ["draft", "expert"]},
            }
        }
    )


@pytest.mark.parametrize(("bounds", "made"), [({"below": 0.5}, 1), ({"below": 0.1}, 0)])
async def test_a_condition_makes_a_range_that_holds(bounds: dict[str, float], made: int, server: ModelServer) -> None:
    spec, book = conditional(**bounds), book_at(server.url)
    foretold = plan(spec, book, QUESTION)
    await spent(spec, book)
    assert foretold.total.calls == Range(6, 7.0, 8)
    assert not foretold.exact_calls
    assert server.ledger.calls == 6 + 2 * made
    (expert,) = [node for node in foretold.nodes if node.id == "expert"]
    assert expert.runs == Range(0, 0.5, 1)


async def test_a_loop_with_a_condition_makes_one_round_to_all(server: ModelServer) -> None:
    loop = {"max": 4, "until": {"best_score": {"at_least": 9}}, "body": [{"judge": {"model": "judge"}}]}
    spec, book = parse([generate(samples=2), {"loop": loop}]), book_at(server.url)
    foretold = plan(spec, book, QUESTION)
    await spent(spec, book)
    assert foretold.total.calls == Range(4, 6, 10)
    assert foretold.total.calls.low <= server.ledger.calls <= foretold.total.calls.high
    assert [(node.id, node.runs) for node in foretold.nodes] == [
        ("generate", exactly(1)),
        ("loop.judge", Range(1, 2, 4)),
    ]


def test_verifying_leaves_a_range_behind_it() -> None:
    spec = parse([generate(samples=4), {"verify": {"model": "judge"}}, {"refine": {"model": "fast"}}])
    foretold = plan(spec, book_at(), 50)
    assert (foretold.total.calls.low, foretold.total.calls.high) == (4 + 8 + 1, 4 + 8 + 4)


def test_a_node_that_never_runs_costs_nothing_even_at_an_unknown_price() -> None:
    nodes = {
        "a": {"use": "generate", "model": "fast"},
        "b": {"use": "refine", "model": "free", "after": "a", "when": {"candidates": {"above": 1}}},
    }
    book = ModelBook(
        {"fast": book_at().resolve("fast"), "free": book_at("http://x/v1", "free", price=None).resolve("free")}, env={}
    )
    foretold = plan(parse({"nodes": nodes}), book, 10)
    assert foretold.unpriced == ()
    assert foretold.total.dollars is not None
    assert foretold.total.calls == exactly(1)
    assert foretold.candidates == exactly(1)


def test_an_unknown_price_is_unknown_and_never_zero() -> None:
    foretold = plan(
        parse([generate("open"), {"refine": {"model": "open"}}]), book_at("http://x/v1", "open", price=None), 9
    )
    assert foretold.total.dollars is None
    assert foretold.unpriced == ("open",)
    assert foretold.total.times(3).dollars is None


def test_a_model_without_known_limits_has_no_upper_bound_and_is_named() -> None:
    foretold = plan(
        parse([generate("open"), {"fuse": {"model": "open"}}]), book_at("http://x/v1", "open", max_output=None)
    )
    assert foretold.unbounded == ("open",)
    assert foretold.total.completion_tokens.high == inf
    assert foretold.total.dollars is not None
    assert foretold.total.dollars.high == Decimal("inf")
    assert foretold.total.dollars.likely < 1
    free = {"prompt": 0, "completion": 0}
    costless = plan(parse([generate("open")]), book_at("http://x/v1", "open", max_output=None, price=free))
    assert costless.total.dollars is not None
    assert costless.total.dollars.high == 0


def test_the_limit_of_a_reply_is_the_least_of_those_that_are_known() -> None:
    estimator = BookEstimator(book_at("http://x/v1", "m", defaults={"max_tokens": 300}, context=250))
    assert estimator.completion("m", None, "generate") == Range(1, 250, 250)
    assert estimator.completion("m", Sampling(max_tokens=7), "generate") == Range(1, 7, 7)
    assert estimator.completion("m", None, "verify_verdict").likely < 50


def test_questions_of_which_nothing_is_known_are_assumed_and_that_is_said() -> None:
    unknown, known = plan(parse([generate()]), book_at()), plan(parse([generate()]), book_at(), QUESTION)
    assert unknown.assumptions == (f"a question of {ASSUMED_QUESTION.low:g} to 1000 tokens, likely 100",)
    assert known.assumptions == ()
    assert plan(parse([generate()]), book_at(), []).assumptions == unknown.assumptions


def test_many_questions_give_the_least_the_mean_and_the_most() -> None:
    texts = ["x" * 80, "x" * 160]
    assert text_tokens(texts, [book_at().resolve("fast")]) == Range(10, 30, 160)
    assert text_tokens(texts, []) == Range(10, 30, 160)
    foretold = plan(parse([generate()]), book_at(), texts)
    each = foretold.total.times(10)
    assert each.calls == exactly(10)
    assert each.prompt_tokens.high == 10 * foretold.total.prompt_tokens.high


def test_embedded_models_are_counted_by_their_own_tokenizer() -> None:
    book = ModelBook(env={})
    size = text_tokens([QUESTION], [book.resolve("embedded/mini")])
    assert size.low == size.high
    foretold = plan(preset("single"), book, QUESTION)
    assert foretold.total.prompt_tokens.high - foretold.total.prompt_tokens.low <= 6


def test_cached_prompt_tokens_may_be_cheaper_so_the_low_end_reckons_with_them() -> None:
    price = {"prompt": 10, "cached_prompt": 1, "completion": 0}
    foretold = plan(parse([generate("m")]), book_at("http://x/v1", "m", price=price), 1000)
    assert foretold.total.dollars is not None
    assert foretold.total.dollars.low < foretold.total.dollars.likely / 9


def seconds(spec: ArchitectureSpec, **speeds: Speed) -> Range | None:
    return plan(spec, book_at(), 10, speeds=speeds).seconds


def test_seconds_follow_the_longest_way_where_speeds_are_known() -> None:
    quick, slow = Speed(0.1, 1000), Speed(1.0, 100)
    layers = parse([[generate("fast"), generate("strong")], {"fuse": {"model": "fast"}}])
    whole = seconds(layers, fast=quick, strong=slow)
    assert whole is not None
    assert whole.low == pytest.approx(1.0 + 1 / 100 + 0.1 + 1 / 1000)
    assert whole.high == pytest.approx(1.0 + 512 / 100 + 0.1 + 512 / 1000)
    assert seconds(layers, fast=quick) is None
    verified = seconds(parse([generate("fast"), {"verify": {"model": "fast"}}]), fast=quick)
    assert verified is not None
    assert verified.low == pytest.approx(3 * (0.1 + 1 / 1000))
    loop = {"max": 3, "until": {"candidates": {"above": 9}}, "body": [{"refine": {"model": "fast"}}]}
    rounds = seconds(parse([generate("fast"), {"loop": loop}]), fast=quick)
    assert rounds is not None
    assert rounds.low == pytest.approx(2 * (0.1 + 1 / 1000))
    assert rounds.high == pytest.approx(4 * (0.1 + 512 / 1000))


def planned(count: float | Range, *origins: str, full: bool = True, made: float = 3, **shape: Any) -> Planned:
    size = count if isinstance(count, Range) else exactly(count)
    made_by = {name: exactly(made) for name in origins}
    return Planned(Shape(question=exactly(5), candidates=size, **shape), made_by, full)


def joined(*parts: tuple[Planned, Range]) -> Planned:
    return join_parts([Part(one, ran, planned(2, "before", made=2)) for one, ran in parts])


MAYBE = Range(0, 0.5, 1)
ONCE = exactly(1)


def test_joining_what_shares_nothing_adds() -> None:
    both = joined((planned(3, "a"), ONCE), (planned(2, "b", full=False), ONCE))
    assert both.shape.candidates == exactly(5)
    assert not both.full


def test_joining_all_of_the_same_gives_it_once() -> None:
    both = joined((planned(3, "a"), ONCE), (planned(2, "a", full=False), ONCE))
    assert both.shape.candidates == exactly(3)
    assert both.full


def test_joining_parts_of_the_same_is_a_range() -> None:
    both = joined((planned(2, "a", full=False), ONCE), (planned(1, "a", full=False), ONCE))
    assert both.shape.candidates == Range(2, 2, 3)


def test_what_may_be_skipped_may_be_missing() -> None:
    some = joined((planned(3, "a"), ONCE), (planned(2, "b", made=2), MAYBE))
    assert some.shape.candidates == Range(3, 4, 5)
    alone = joined((planned(3, "a"), MAYBE))
    assert (alone.shape.candidates.low, alone.shape.candidates.high) == (2, 3)
    never = joined((planned(3, "a"), ZERO))
    assert never.shape.candidates == exactly(2)


def test_tokens_and_tests_of_a_join_lie_around_those_of_its_parts() -> None:
    one = planned(1, "a", made=1, candidate_tokens=Range(1, 10, 20), tests=exactly(3), test_tokens=exactly(9))
    other = planned(3, "b", candidate_tokens=Range(5, 30, 40), verdicts=True)
    both = joined((one, ONCE), (other, ONCE)).shape
    assert both.candidate_tokens == Range(1, 25, 40)
    assert both.tests == Range(3, 3, 3)
    assert both.test_tokens == exactly(9)
    assert both.verdicts


def test_a_foreign_tokenizer_may_count_a_candidate_differently() -> None:
    def prompt_of_fuse(*models: str) -> Range:
        found: Plan = plan(parse([generate(models[0]), {"fuse": {"model": models[-1]}}]), book_at(), 10)
        return found.nodes[1].quantities.prompt_tokens

    assert prompt_of_fuse("fast", "strong").high > prompt_of_fuse("fast", "fast").high + 500
