"""Batches at providers and the samples that are asked for in them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        "provider_batch",
        sa.Column("mark", sa.String(32), primary_key=True),
        sa.Column("place", sa.String(), nullable=False, index=True),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False, index=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("provider_id", sa.String(), nullable=True),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("sent_at", sa.String(32), nullable=True),
        sa.Column("ended_at", sa.String(32), nullable=True),
    )
    op.create_table(
        "provider_batch_call",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("mark", sa.String(), sa.ForeignKey("provider_batch.mark"), nullable=False, index=True),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("item_id", sa.String(), nullable=False),
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("sample_index", sa.Integer(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
    )


def downgrade() -> None:
    """Go back."""
    for table in ("provider_batch_call", "provider_batch"):
        op.drop_table(table)
