"""The first tables: call, architecture, run, item_result."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        "call",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("item_id", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("sample_index", sa.Integer(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("tokens_estimated", sa.Boolean(), nullable=False),
        sa.Column("cost", sa.String(), nullable=True),
        sa.Column("latency_s", sa.Float(), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
    )
    op.create_index("ix_call_created_at", "call", ["created_at"])
    op.create_index("ix_call_run_id", "call", ["run_id"])
    op.create_table(
        "architecture",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("canonical", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("architecture_id", sa.String(), nullable=True),
        sa.Column("task", sa.String(), nullable=True),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("totals", sa.Text(), nullable=True),
        sa.Column("started_at", sa.String(32), nullable=False),
        sa.Column("ended_at", sa.String(32), nullable=True),
    )
    op.create_index("ix_run_started_at", "run", ["started_at"])
    op.create_table(
        "item_result",
        sa.Column("run_id", sa.String(32), sa.ForeignKey("run.id"), primary_key=True),
        sa.Column("architecture_id", sa.String(64), primary_key=True),
        sa.Column("item_id", sa.String(), primary_key=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("correct", sa.Boolean(), nullable=True),
        sa.Column("calls_used", sa.Integer(), nullable=False),
        sa.Column("calls_paid", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens_used", sa.Integer(), nullable=False),
        sa.Column("completion_tokens_used", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens_paid", sa.Integer(), nullable=False),
        sa.Column("completion_tokens_paid", sa.Integer(), nullable=False),
        sa.Column("cost_used", sa.String(), nullable=True),
        sa.Column("cost_paid", sa.String(), nullable=True),
        sa.Column("latency_s", sa.Float(), nullable=False),
        sa.Column("error_class", sa.String(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("trace", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
    )


def downgrade() -> None:
    """Go back."""
    for table in ("item_result", "run", "architecture", "call"):
        op.drop_table(table)
