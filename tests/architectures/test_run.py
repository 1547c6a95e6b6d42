"""What runs when, what a node receives, and what skipping, failing, repeating and nesting mean."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from time import thread_time

import pytest

from architectures.compile import compile_architecture
from architectures.context import NodeContext, Run
from architectures.joining import join
from architectures.outcome import Outcome
from architectures.parse import parse
from architectures.program import make_program
from architectures.spec import AnyNode, ArchitectureSpec, Comparison, Condition, LoopNode, NestedNode, TechniqueNode
from architectures.stages import stages
from db.errors import ConfigError, InsufficientCandidates
from nodes.adaptive_vote import AdaptiveVote
from nodes.base import Candidate, Context, Estimator, NodePlan, Note, Shape, State, Technique
from nodes.drawing import generate_variables
from nodes.generate import Generate
from nodes.hedged_generate import HedgedGenerate
from nodes.short_m_at_k import ShortMAtK
from providers.gateway import Gateway
from providers.scope import Scope
from providers.testing_server import ModelServer
from tests.architectures.support import Echo, Wait, book_at


class Fail(Technique):
    """Has nothing to hand on, or fails otherwise."""

    gives = frozenset({"candidates"})

    error: str = "InsufficientCandidates"

    async def run(self, state: State, context: Context) -> State:
        raise {"InsufficientCandidates": InsufficientCandidates, "ConfigError": ConfigError}[self.error](
            f"{context.node} failed"
        )

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        return NodePlan((), shape)


class Count(Technique):
    """Counts its rounds in a measure, and fails from a round on."""

    gives = frozenset({"candidates"})
    measures = frozenset({"rounds"})

    fails_from: int = 99

    async def run(self, state: State, context: Context) -> State:
        rounds = state.measures.get("rounds", 0) + 1
        if rounds >= self.fails_from:
            raise InsufficientCandidates(f"{context.node} failed")
        made = Candidate(id=f"{context.node}:1", text=f"round {rounds:.0f}", node=context.node, model=None)
        return replace(state, candidates=(made,)).measured(rounds=rounds)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        return NodePlan((), shape)


def node(name: str, settings: Technique, *after: str, when: Condition | None = None) -> TechniqueNode:
    return TechniqueNode(id=name, use=type(settings).__name__.lower(), settings=settings, after=after, when=when)


def graph(*nodes: AnyNode, output: tuple[str, ...] = ()) -> ArchitectureSpec:
    return ArchitectureSpec(nodes=nodes, output=output or (nodes[-1].id,))


def wants(measure: str, **bounds: float) -> Condition:
    comparisons = [{"measure": measure, "operator": name, "value": value} for name, value in bounds.items()]
    return Condition.model_validate({"comparisons": comparisons})


async def ran(spec: ArchitectureSpec, gateway: Gateway, question: str = "q") -> tuple[State, Run]:
    run = Run(gateway=gateway, scope=Scope("r", "i"), answer_kind="auto")
    return await make_program(spec).run(State(question=question), run), run


def ids(state: State) -> list[str]:
    return [candidate.id for candidate in state.candidates]


async def test_a_node_receives_candidates_in_the_order_of_after(idle: Gateway) -> None:
    spec = graph(
        node("a", Wait(seconds=0.02)), node("b", Wait()), node("c", Wait(keeps=True, makes=0), "b", "a"), output=("c",)
    )
    state, _ = await ran(spec, idle)
    assert ids(state) == ["b:1", "a:1"]


async def test_a_candidate_that_comes_two_ways_stands_once(idle: Gateway) -> None:
    spec = graph(
        node("a", Wait()),
        node("b", Wait(keeps=True), "a"),
        node("c", Wait(keeps=True, makes=0), "a"),
        output=("c", "b"),
    )
    state, _ = await ran(spec, idle)
    assert ids(state) == ["a:1", "b:1"]


def test_a_joined_candidate_keeps_what_each_way_said_of_it() -> None:
    plain = Candidate(id="g:1", text="t", node="g", model="m")
    judged = replace(plain.scored("judge", 7), verdict=True, verdict_reason="sound", answer="4", tests_passed=(True,))
    criticised = replace(plain.scored("vote", 1), critique="short", mean_logprob=-0.5)
    states = [
        State(question="q", candidates=(judged,), tests=("t1", "t2"), notes=(Note("a", "fallback", "x"),)),
        State(question="q", candidates=(criticised,), tests=("t2", "t3"), notes=(Note("a", "fallback", "x"),)),
    ]
    joined = join([states[0].measured(m=1, k=1), states[1].measured(m=2)])
    (candidate,) = joined.candidates
    assert dict(candidate.scores) == {"judge": 7, "vote": 1}
    assert (candidate.critique, candidate.verdict, candidate.answer) == ("short", True, "4")
    assert (candidate.verdict_reason, candidate.tests_passed, candidate.mean_logprob) == ("sound", (True,), -0.5)
    assert joined.tests == ("t1", "t2", "t3")
    assert dict(joined.measures) == {"m": 2, "k": 1}
    assert joined.notes == (Note("a", "fallback", "x"),)


async def test_nodes_of_a_layer_run_at_once(idle: Gateway) -> None:
    """Each of them goes on only when all have begun."""
    meeting = asyncio.Barrier(5)

    class Meet(Wait):
        async def run(self, state: State, context: Context) -> State:
            async with asyncio.timeout(60):
                await meeting.wait()
            return await super().run(state, context)

    layer = [node(f"n{k}", Meet()) for k in range(5)]
    _, run = await ran(graph(*layer, output=tuple(n.id for n in layer)), idle)
    assert run.trace.keys() == {n.id for n in layer}


async def test_a_node_does_not_wait_for_a_slow_branch_it_does_not_follow(idle: Gateway) -> None:
    """The slow branch ends only when the node has run."""
    has_run = asyncio.Event()

    class Slow(Wait):
        async def run(self, state: State, context: Context) -> State:
            async with asyncio.timeout(60):
                await has_run.wait()
            return await super().run(state, context)

    class Next(Wait):
        async def run(self, state: State, context: Context) -> State:
            has_run.set()
            return await super().run(state, context)

    spec = graph(
        node("slow", Slow()), node("quick", Wait()), node("next", Next(), "quick"), node("end", Wait(), "slow", "next")
    )
    assert len(stages(spec.ordered)) == 2
    _, run = await ran(spec, idle)
    assert run.trace.keys() == {"slow", "quick", "next", "end"}


def test_a_graph_is_cut_where_everything_must_wait_for_everything() -> None:
    w = Wait()
    chain = graph(node("a", w), node("b", w, "a"), node("c", w, "b"))
    assert [stage.nodes for stage in stages(chain.ordered)] == [(0,), (1,), (2,)]
    layers = graph(node("a", w), node("b", w), node("c", w, "a", "b"), node("d", w, "a", "b"), node("e", w, "c", "d"))
    assert [len(stage.nodes) for stage in stages(layers.ordered)] == [2, 2, 1]
    jump = graph(node("a", w), node("b", w, "a"), node("c", w, "a", "b"))
    assert [len(stage.nodes) for stage in stages(jump.ordered)] == [1, 1, 1]
    skew = graph(node("a", w), node("b", w), node("c", w, "a"), node("d", w, "b", "c"))
    assert [len(stage.nodes) for stage in stages(skew.ordered)] == [3, 1]
    assert stages(skew.ordered)[0].waits == {2: (1,)}


async def test_a_condition_decides_on_what_the_node_receives(idle: Gateway) -> None:
    for agreement, skipped in ((0.5, []), (0.9, ["expert"])):
        spec = graph(
            node("vote", Wait(takes={"agreement": agreement})),
            node("expert", Wait(), "vote", when=wants("agreement", below=0.67)),
            node("end", Wait(keeps=True, makes=0), "vote", "expert"),
        )
        state, run = await ran(spec, idle)
        assert run.skipped == skipped
        assert ids(state) == (["vote:1"] if skipped else ["vote:1", "expert:1"])


async def test_the_number_of_candidates_is_a_measure(idle: Gateway) -> None:
    spec = graph(
        node("a", Wait(makes=3)), node("b", Wait(), "a", when=wants("candidates", at_least=2, at_most=3, equals=3))
    )
    state, run = await ran(spec, idle)
    assert (ids(state), run.skipped) == (["b:1"], [])


@pytest.mark.parametrize(
    ("operator", "held"), [("above", False), ("at_least", True), ("at_most", True), ("below", False), ("equals", True)]
)
def test_comparisons(operator: str, held: bool) -> None:
    comparison = Comparison.model_validate({"measure": "m", "operator": operator, "value": 2})
    assert comparison.holds(2) is held
    assert comparison.holds(1) is (operator in ("at_most", "below"))
    assert comparison.holds(3) is (operator in ("at_least", "above"))


async def test_where_all_were_skipped_the_next_sees_what_they_would_have_seen(idle: Gateway) -> None:
    never = wants("candidates", above=9)
    spec = graph(
        node("a", Wait()),
        node("b", Wait(), "a", when=never),
        node("c", Wait(), "b", when=never),
        node("d", Wait(keeps=True), "c"),
    )
    state, run = await ran(spec, idle)
    assert ids(state) == ["a:1", "d:1"]
    assert run.skipped == ["b", "c"]
    skipped_output, _ = await ran(graph(node("a", Wait()), node("b", Wait(), "a", when=never)), idle)
    assert ids(skipped_output) == ["a:1"]


async def test_a_measure_that_nothing_took_skips_and_is_noted(idle: Gateway) -> None:
    spec = graph(node("a", Wait()), node("b", Wait(), "a", when=wants("mood", above=0)))
    state, run = await ran(spec, idle)
    assert run.skipped == ["b"]
    assert state.notes == (Note("b", "skipped", "its condition reads mood, which nothing had measured"),)


async def test_a_node_with_nothing_left_is_left_out_and_noted(idle: Gateway) -> None:
    spec = graph(node("good", Wait()), node("bad", Fail()), node("end", Wait(keeps=True), "bad", "good"))
    state, run = await ran(spec, idle)
    assert ids(state) == ["good:1", "end:1"]
    assert run.failed == {"bad": "bad failed"}
    assert state.notes == (Note("bad", "call_failed", "bad failed"),)


async def test_where_nothing_is_left_the_error_of_the_first_comes_out(idle: Gateway) -> None:
    spec = graph(node("bad", Fail()), node("next", Wait(), "bad"), node("end", Wait(), "next"))
    run = Run(gateway=idle, scope=Scope("r", "i"), answer_kind="auto")
    with pytest.raises(InsufficientCandidates, match="bad failed"):
        await make_program(spec).run(State(question="q"), run)
    assert list(run.failed) == ["bad"]
    assert not run.trace


async def test_other_errors_end_the_run_and_come_out_bare_when_what_is_under_way_is_done(idle: Gateway) -> None:
    inner = graph(node("x", Wait(seconds=0.02)), node("y", Wait(), "x"))
    spec = graph(
        node("first", Wait(seconds=0.01)),
        node("bad", Fail(error="ConfigError"), "first"),
        NestedNode(id="deep", spec=inner),
        node("next", Wait(), "bad"),
        output=("next", "deep"),
    )
    run = Run(gateway=idle, scope=Scope("r", "i"), answer_kind="auto")
    with pytest.raises(ConfigError, match="bad failed"):
        await make_program(spec).run(State(question="q"), run)
    assert list(run.trace) == ["first", "deep.x"]


async def test_a_bug_in_a_technique_cancels_the_others_and_comes_out_as_it_is(idle: Gateway) -> None:
    ended: list[str] = []
    begun = asyncio.Event()

    class Bug(Fail):
        async def run(self, state: State, context: Context) -> State:
            await begun.wait()
            return await super().run(state, context)

    class Slow(Wait):
        async def run(self, state: State, context: Context) -> State:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append(context.node)
                raise
            return state

    bad = node("bad", Bug(error="unknown"))
    spec = graph(bad, node("slow", Slow()), node("next", Wait(), "bad"), output=("next", "slow"))
    with pytest.raises(KeyError, match="unknown"):
        await ran(spec, idle)
    assert ended == ["slow"]


async def test_a_loop_repeats_on_its_own_result_until_its_condition_holds(idle: Gateway) -> None:
    loop = LoopNode(
        id="improve", after=("a",), body=graph(node("n", Count())), until=wants("rounds", at_least=2), max=5
    )
    state, run = await ran(graph(node("a", Wait()), loop), idle)
    assert state.candidates[0].text == "round 2"
    assert list(run.trace) == ["a", "improve.1.n", "improve.2.n", "improve"]
    assert ids(state) == ["improve.2.n:1"]


async def test_a_loop_without_condition_runs_all_its_rounds(idle: Gateway) -> None:
    state, _ = await ran(graph(LoopNode(id="l", body=graph(node("n", Count())), max=4)), idle)
    assert state.measures["rounds"] == 4


async def test_a_later_round_that_leaves_nothing_lets_the_one_before_stand(idle: Gateway) -> None:
    state, _ = await ran(graph(LoopNode(id="l", body=graph(node("n", Count(fails_from=3))), max=4)), idle)
    assert state.candidates[0].text == "round 2"
    assert state.notes == (Note("l", "fallback", "round 3 left nothing, round 2 stands: l.3.n failed"),)
    with pytest.raises(InsufficientCandidates, match=r"l\.1\.n failed"):
        await ran(graph(LoopNode(id="l", body=graph(node("n", Fail())), max=4)), idle)


async def test_a_nested_architecture_starts_from_what_its_node_receives(idle: Gateway) -> None:
    inner = graph(node("x", Wait(keeps=True)), node("y", Wait(keeps=True), "x"))
    spec = graph(node("a", Wait()), NestedNode(id="deep", after=("a",), spec=inner))
    state, run = await ran(spec, idle)
    assert ids(state) == ["a:1", "deep.x:1", "deep.y:1"]
    assert list(run.trace) == ["a", "deep.x", "deep.y", "deep"]
    assert set(run.seconds) == set(run.trace)


async def test_a_skipped_nested_architecture_runs_nothing_inside(idle: Gateway) -> None:
    deep = NestedNode(id="deep", after=("a",), spec=graph(node("x", Wait())), when=wants("candidates", equals=9))
    _, run = await ran(graph(node("a", Wait()), deep), idle)
    assert run.skipped == ["deep"]
    assert list(run.trace) == ["a"]


async def test_an_output_without_candidates_is_no_answer(idle: Gateway) -> None:
    compiled = compile_architecture(graph(node("a", Wait(makes=0))))
    with pytest.raises(InsufficientCandidates, match="holds no candidate"):
        await compiled.run("q", gateway=idle, scope=Scope("r", "i"))


async def one(spec: ArchitectureSpec, gateway: Gateway, item: str = "i") -> Outcome:
    return await compile_architecture(spec).run(f"q {item}", gateway=gateway, scope=Scope("r", item))


async def test_an_architecture_answers_through_langgraph(gateway: Gateway, server: ModelServer) -> None:
    spec = parse(
        [
            {"generate": {"model": ["fast", "strong"], "samples": 2, "temperature": 0.8}},
            {"critique": {"model": "judge"}},
            {"rank": {"model": "judge", "keep": 2}},
            {"fuse": {"model": "strong"}},
        ]
    )
    compiled = compile_architecture(spec, book_at(server.url))
    scope = Scope("r", "i")
    outcome = await compiled.run("What is 2 + 2?", gateway=gateway, scope=scope)
    assert outcome.answer == outcome.candidate.text == "Sample 0 of test-model. Answer: 0"
    assert outcome.candidate.parents == tuple(c.id for c in outcome.trace["rank"].candidates)
    assert list(outcome.trace) == ["generate", "critique", "rank", "fuse"]
    assert all(candidate.critique for candidate in outcome.trace["rank"].candidates)
    assert scope.totals().calls == server.ledger.calls == 7
    assert not outcome.skipped
    assert not outcome.failed
    assert len(compiled.graph.get_graph().nodes) == 6


async def test_many_questions_share_one_compiled_graph(gateway: Gateway) -> None:
    compiled = compile_architecture(parse([{"generate": {"model": "fast", "samples": 3}}, "vote"]))

    async def ask(number: int) -> Outcome:
        return await compiled.run(f"q {number}", gateway=gateway, scope=Scope("r", str(number)))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(number)) for number in range(50)]
    outcomes = [task.result() for task in tasks]
    assert [outcome.state.question for outcome in outcomes] == [f"q {number}" for number in range(50)]
    assert all(len(outcome.trace["generate"].candidates) == 3 for outcome in outcomes)


async def test_one_model_that_is_down_does_not_take_the_others_along(server: ModelServer) -> None:
    book = book_at(server.url)
    broken = book_at("http://127.0.0.1:9/v1", "gone", limits={"retries": 0})
    from providers.book import ModelBook

    both = ModelBook({name: b.resolve(name) for b, name in ((book, "fast"), (broken, "gone"))}, env={})
    async with Gateway(both, None) as gateway:
        spec = parse([[{"generate": {"model": "gone"}}, {"generate": {"model": "fast", "samples": 2}}], "vote"])
        outcome = await one(spec, gateway)
    assert list(outcome.failed) == ["generate"]
    assert outcome.candidate.model == "fast"
    assert any(note.node == "generate" and note.kind == "call_failed" for note in outcome.state.notes)


async def test_errors_of_usage_pass_through_langgraph_unchanged(gateway: Gateway) -> None:
    with pytest.raises(ConfigError, match="Unknown model 'nobody'"):
        await one(parse([{"generate": {"model": "nobody"}}, "vote"]), gateway)


def race(first: float, second: float) -> ArchitectureSpec:
    """Two chains whose second nodes ask the same, one after `first` seconds and one after `second`."""
    return graph(
        node("a", Wait(seconds=first)),
        node("b", Wait(seconds=second)),
        node("x", Echo(model="fast", samples=2), "a"),
        node("y", Echo(model="fast", samples=2), "b"),
        node("end", Wait(keeps=True, makes=0), "x", "y"),
    )


async def test_which_sample_a_node_draws_does_not_depend_on_which_branch_is_quicker(gateway: Gateway) -> None:
    drawn: list[Mapping[str, int]] = []
    for first, second in ((0, 0.05), (0.05, 0)):
        state, _ = await ran(race(first, second), gateway, "the same question")
        drawn.append({candidate.id: candidate.index for candidate in state.candidates})
    assert drawn[0] == drawn[1] == {"x:1": 0, "x:2": 1, "y:1": 100_000, "y:2": 100_001}


async def test_a_node_in_a_lane_may_go_on_from_the_index_it_was_told(gateway: Gateway) -> None:
    context = NodeContext("x", 1, Run(gateway=gateway, scope=Scope("r", "i"), answer_kind="auto"))
    asked = await context.ask("fast", "generate", generate_variables("q"), n=2)
    told = [sample.index for sample in asked.samples]
    later = await context.ask("fast", "generate", generate_variables("q"), first=told[-1] + 1)
    own = await context.ask("fast", "generate", generate_variables("q"), first=3)
    assert told == [100_000, 100_001]
    assert [later.samples[0].index, own.samples[0].index] == [100_002, 100_003]


async def test_nodes_that_start_together_share_one_sequence_of_samples(gateway: Gateway) -> None:
    echo = Echo(model="fast", samples=2)
    nested = NestedNode(id="deep", spec=graph(node("z", echo)))
    spec = graph(node("x", echo), node("y", echo), nested, output=("x", "y", "deep"))
    state, _ = await ran(spec, gateway)
    assert {c.id: c.index for c in state.candidates} == {
        "x:1": 0,
        "x:2": 1,
        "y:1": 2,
        "y:2": 3,
        "deep.z:1": 4,
        "deep.z:2": 5,
    }


def test_lanes_are_given_to_racing_nodes_alone() -> None:
    echo, other = Echo(model="fast"), Echo(model="strong")
    wait = Wait()
    assert make_program(race(0, 0)).lanes == {("y",): 1}
    ordered = graph(node("a", echo), node("b", echo, "a"), node("c", echo, "b"))
    assert make_program(ordered).lanes == {}
    apart = graph(node("a", wait), node("b", wait), node("x", echo, "a"), node("y", other, "b"), output=("x", "y"))
    assert make_program(apart).lanes == {}
    looped = graph(
        node("a", wait),
        LoopNode(id="l", body=graph(node("z", echo)), max=2),
        node("x", echo, "a"),
        output=("l", "x"),
    )
    assert make_program(looped).lanes == {("x",): 1}


def test_techniques_that_draw_the_question_share_one_sequence_of_samples() -> None:
    plain, hedged = Generate(model="fast"), HedgedGenerate(model="fast")
    one_by_one, race_of_all = AdaptiveVote(model="fast"), ShortMAtK(model="fast")
    together = graph(node("a", plain), node("b", hedged), output=("a", "b"))
    assert make_program(together).lanes == {}
    later = graph(node("a", plain), node("b", one_by_one), node("c", race_of_all), output=("a", "b", "c"))
    assert make_program(later).lanes == {("b",): 1, ("c",): 2}
    after = graph(node("a", Wait()), node("b", plain), node("c", hedged, "a"), output=("b", "c"))
    assert make_program(after).lanes == {("c",): 1}
    ordered = graph(node("a", plain), node("b", one_by_one, "a"))
    assert make_program(ordered).lanes == {}


async def test_cpu_of_an_invocation_is_small(idle: Gateway) -> None:
    spec = graph(*[node(f"n{k}", Wait(), *([f"n{k - 1}"] if k else [])) for k in range(10)])
    compiled = compile_architecture(spec)
    scope = Scope("r", "i")
    for _ in range(20):
        await compiled.run("q", gateway=idle, scope=scope)
    best = unit = 1.0
    for _ in range(5):
        began = thread_time()
        for _ in range(20):
            await compiled.run("q", gateway=idle, scope=scope)
        best = min(best, (thread_time() - began) / 20 / 10)
        began = thread_time()
        for _ in range(20):
            sum(number * number for number in range(5_000))
        unit = min(unit, (thread_time() - began) / 20)
    # The aim is 0.3 ms a node, about what 5,000 steps of a loop take; a busy machine slows both.
    assert best < 4 * unit, (best, unit)
