"""A debate of two models, beside a vote over as many samples: does reading one another help?

    python examples/debate.py

Two agents of each model answer, read one another, and answer again; the embedded judge, which can put answers together,
speaks for all of them in the second round. Votes over eight first answers are the yardstick at equal calls. Then
one question is shown: what was said first, and what after reading the others.
"""

# Prints: debate
# Prints: first round
# Prints: second round

import tempfile

import colonnade
from evals.problems import make_problems

MODELS = ["embedded/nano", "embedded/mini"]


def debate(**changes: object) -> dict[str, object]:
    """Write a debate, with some settings changed."""
    settings = {"model": MODELS, "agents": 2, "rounds": 2, "reviser": "embedded/judge", "temperature": 0.8}
    return {"name": "debate", "layers": [{"debate": {**settings, **changes}}]}


def vote(samples: int) -> dict[str, object]:
    """Write a vote over so many samples of each model."""
    return {
        "name": "vote-of-8",
        "layers": [{"generate": {"model": MODELS, "samples": samples, "temperature": 0.8}}, "vote"],
    }


def main() -> None:
    """Compare, then look into one debate."""
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{folder}/calls.db"
        for spec in (debate(), vote(4)):
            summary = colonnade.load(spec, database_url=database).evaluate("arithmetic", items=30).evaluation.summary
            assert summary is not None
            low, high = summary.interval
            calls = summary.calls_used / summary.items
            print(
                f"{spec['name']:10} accuracy {summary.accuracy:.3f} [{low:.3f}, {high:.3f}], {calls:g} calls a question"
            )
        problem = make_problems("arithmetic", 9, split="test")[5]
        print(f"{problem.question} ({problem.answer})")
        for name, rounds in (("first", 1), ("second", 2)):
            # The first round is drawn once: the second run finds it in the store.
            answer = colonnade.load(debate(rounds=rounds, final="keep"), database_url=database).run(problem.question)
            said = [candidate.text.splitlines()[-1] for candidate in answer.outcome.trace["debate"].candidates]
            print(f"{name} round: {'; '.join(said)} ({answer.totals.paid_calls} calls paid)")


if __name__ == "__main__":
    main()
