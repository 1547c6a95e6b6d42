"""ReWOO with two tools and a scripted model that a local server plays: no key, no GPU, no network.

    python examples/rewoo_two_tools.py

One call plans without having seen a result, tools (no calls) and a worker find what the plan asks for, one call
answers. The embedded models cannot plan, so the replies are written here; a model of yours in `MODELS` makes its own.
"""

# Prints: Answer: The Danube is 1617 km longer.

import asyncio
import json
import re
import tempfile
from pathlib import Path

import colonnade
from providers.testing_server import Asking, ModelServer

FACTS = ({"title": "Rhine", "text": "1233 km long."}, {"title": "Danube", "text": "2850 km long."})
PLAN = """Plan: Find both lengths.
#E1 = lookup[Danube]
Plan: The second one.
#E2 = lookup[Rhine]
Plan: Write the difference.
#E3 = LLM[Write as one expression: the first less the second. #E1 #E2]
Plan: Work it out.
#E4 = calculator[#E3]"""
MODELS = "models: {{scripted: {{transport: openai, base_url: '{url}', price: {{prompt: 0, completion: 0}}}}}}"


def reply(asking: Asking) -> str:
    """Play the planner, the worker, and the solver, which reads the last result."""
    if "Make a plan" in asking.prompt:
        return PLAN
    if "<task>" in asking.prompt:
        return " - ".join(re.findall(r"\d+", asking.prompt))
    for why, asked, found in re.findall(r"Plan: (.*)\nAsked: (.*)\nFound: (.*)", asking.prompt):
        print(f"{why:30} {asked[:40]:42} -> {found}")
    return f"The Danube is {found} km longer."


async def main() -> None:
    """Serve the scripted model, ask one question, and show what came of it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "facts.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in FACTS))
        lookup = {"use": "lookup", "file": str(folder / "facts.jsonl"), "passages": 1, "about": "lengths of rivers"}
        node = {"rewoo": {"model": "scripted", "tools": ["calculator", lookup]}}
        async with ModelServer(models=["scripted"], reply=reply) as server:
            book = folder / "models.yaml"
            book.write_text(MODELS.format(url=server.url))
            spec, database = {"name": "rewoo", "layers": [node]}, f"sqlite:///{folder}/calls.db"
            pipeline = colonnade.load(spec, models=book, database_url=database)
            answer = await pipeline.arun("How much longer than the Rhine is the Danube?")
            print(f"Answer: {answer.text}\nCalls: {answer.totals.calls}, served: {server.ledger.calls}")


if __name__ == "__main__":
    asyncio.run(main())
