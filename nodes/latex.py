"""LaTeX answers: the last `\\boxed{}` of a reply, and a cheap normal form by which like answers count as one."""

from __future__ import annotations

import re

from nodes.numerals import bare_number

__all__ = ["last_boxed", "normal_latex"]

_BRACE = re.compile(r"\\(?:boxed|fbox)(?:(?P<box>\s*\{)|\s+(?P<bare>[^\s{}$]+))|(?<!\\)[{}]")
_DROPPED = re.compile(r"\\(?:left|right|!|,|;|:|quad|qquad|displaystyle|limits)(?![A-Za-z])|\\ |~")
_WRAPPED = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|°")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:\{([^{}]*)\}|(\w))\s*(?:\{([^{}]*)\}|(\w))")
_SHORT_ROOT = re.compile(r"\\sqrt\s*(\w)")
_ASSIGNED = re.compile(r"^\\?[A-Za-z](?:\([A-Za-z]\))?\s*=\s*(?=[^=]+$)")
_PLACEHOLDER = re.compile(r"^[_\s.?]*$")
_BLANK = re.compile(r"\s+")


def last_boxed(text: str) -> str | None:
    """Return what stands in the last `\\boxed{}` or `\\fbox{}`, braces balanced, None where there is none."""
    last = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if last < 0:
        return None
    box = _last_closed(text, last)
    return box if box is not None else _last_closed(text, 0)


def _last_closed(text: str, begin: int) -> str | None:
    """Find the box that begins last among those that are closed, in one pass."""
    best: tuple[int, str] | None = None
    opened: list[int | None] = []
    for token in _BRACE.finditer(text, begin):
        if token["bare"]:
            best = max(best or (-1, ""), (token.start(), token["bare"].rstrip(".")))
        elif token[0].endswith("{"):
            opened.append(token.end() if token["box"] else None)
        elif opened and (start := opened.pop()) is not None:
            best = max(best or (-1, ""), (start, text[start : token.start()]))
    return None if best is None else best[1]


def normal_latex(answer: str) -> str:
    """Bring an answer to a normal form: spacing, delimiters, `\\dfrac` and units of layout gone, numbers as numbers."""
    answer = answer.strip().strip("$").strip()
    for opening, closing in (("\\(", "\\)"), ("\\[", "\\]")):
        if answer.startswith(opening) and answer.endswith(closing):
            answer = answer[2:-2]
    if _PLACEHOLDER.match(answer):
        return ""
    if (number := bare_number(answer)) is not None:
        return number
    answer = _DROPPED.sub("", answer.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\$", ""))
    answer = _DEGREES.sub("", _WRAPPED.sub(r"\1", answer)).replace("\\%", "").replace("%", "")
    answer = _SHORT_FRACTION.sub(lambda m: f"\\frac{{{m[1] or m[2] or ''}}}{{{m[3] or m[4] or ''}}}", answer)
    answer = _SHORT_ROOT.sub(r"\\sqrt{\1}", answer)
    answer = _BLANK.sub("", _ASSIGNED.sub("", answer.strip())).rstrip(".")
    return bare_number(answer) or answer
