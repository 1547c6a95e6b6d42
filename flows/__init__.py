"""Runs: sessions, evaluations in chunks, and the Prefect flows around them.

`flows.prefect_flow` imports Prefect, which takes a second or two; nothing else here does.
"""

from flows.evaluate import Chunk, ChunkDone, EvaluateJob, Evaluation, TaskChoice, evaluate
from flows.session import Caps, Session, SessionSettings, open_session

__all__ = [
    "Caps",
    "Chunk",
    "ChunkDone",
    "EvaluateJob",
    "Evaluation",
    "Session",
    "SessionSettings",
    "TaskChoice",
    "evaluate",
    "open_session",
]
