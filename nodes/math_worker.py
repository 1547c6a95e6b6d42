"""The process that `nodes.symbolic` asks: one JSON line with two answers in, one line `true`, `false` or `null` out.

It is run by path and imports nothing of this project. The watchdog is faulthandler's: a thread in C that ends the
process even while sympy holds the interpreter in one long multiplication.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator

_MEMORY = 4 << 30


def main() -> None:
    """Answer until the input ends."""
    _limit_memory()
    logging.disable(logging.CRITICAL)
    for verdict in verdicts(sys.stdin):
        sys.stdout.write(json.dumps(verdict) + "\n")
        sys.stdout.flush()


def verdicts(lines: Iterable[str]) -> Iterator[bool | None]:
    """Compare the two answers of each line; None is for what sympy cannot read."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    configs = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]

    def compare(a: str, b: str) -> bool | None:
        gold, answer = (parse(_boxed(side), extraction_config=configs, parsing_timeout=None) for side in (a, b))
        return bool(verify(gold, answer, timeout_seconds=None)) if gold and answer else None

    # What sympy loads at its first comparison takes no time from the first one that is asked for.
    compare("\\frac{1}{2}", "0.5")
    with open(os.devnull, "w") as nowhere:
        for line in lines:
            asked = json.loads(line)
            faulthandler.dump_traceback_later(asked["timeout_s"], exit=True, file=nowhere)
            try:
                verdict = compare(asked["a"], asked["b"])
            except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError):
                verdict = None
            finally:
                faulthandler.cancel_dump_traceback_later()
            yield verdict


def _boxed(answer: str) -> str:
    return f"$\\boxed{{{answer.strip('$')}}}$"


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:
        return  # not on Windows; the watchdog still ends the process
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY if hard < 0 else min(_MEMORY, hard), hard))


if __name__ == "__main__":
    main()
