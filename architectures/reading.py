"""What is made for nobody: critiques, unit tests and candidates that no node reads before they are dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.base import Need, Technique

if TYPE_CHECKING:
    from architectures.spec import AnyNode, ArchitectureSpec

__all__ = ["reads", "unread"]


def reads(settings: Technique) -> frozenset[Need]:
    """Tell what a technique reads: what it needs, what it declares, and what its settings switch on."""
    switches: dict[Need, str] = {"critiques": "use_critiques", "tests": "show_tests"}
    switched = frozenset[Need](need for need, switch in switches.items() if getattr(settings, switch, False))
    return settings.demands() | settings.reads | switched


def unread(spec: ArchitectureSpec, *, top: bool) -> list[tuple[AnyNode, str]]:
    """Find nodes of a graph whose work is for nothing, with a sentence for each; nested graphs are not entered.

    What the output of a nested graph (`top` false) holds is read by what comes after it.
    """
    found: list[tuple[AnyNode, str]] = []
    for node in spec.ordered:
        if node.kind != "technique":
            continue
        needs: tuple[Need, ...] = ("critiques", "tests")
        found.extend(
            (node, f"nothing reads the {need} of this node before they are dropped.")
            for need in needs
            if need in node.settings.gives and not _is_read(spec, node, need, top=top)
        )
        if _replaced(spec, node):
            found.append((node, "nothing reads its candidates: what follows makes new ones in their place."))
    return found


def _followers(spec: ArchitectureSpec, node: AnyNode) -> list[AnyNode]:
    return [other for other in spec.nodes if node.id in other.after]


def _is_read(spec: ArchitectureSpec, node: AnyNode, need: Need, *, top: bool) -> bool:
    """Walk on from a node until its gift is read or dropped; a loop and a nested graph may read it."""
    todo = [node]
    seen = set()
    while todo:
        current = todo.pop()
        if current.id in spec.output and not top:
            return True
        for follower in _followers(spec, current):
            if follower.kind != "technique" or need in reads(follower.settings):
                return True
            if need not in follower.settings.drops and follower.id not in seen:
                seen.add(follower.id)
                todo.append(follower)
    return False


def _replaced(spec: ArchitectureSpec, node: AnyNode) -> bool:
    if node.kind != "technique" or "candidates" not in node.settings.gives | node.settings.needs:
        return False
    followers = _followers(spec, node)
    return (
        node.id not in spec.output
        and bool(followers)
        and all(
            other.kind == "technique"
            and "candidates" not in other.settings.needs
            and "candidates" in other.settings.gives
            and other.when is None
            for other in followers
        )
    )
