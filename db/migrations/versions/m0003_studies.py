"""Studies, their trials and their jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        "study",
        sa.Column("id", sa.String(32), sa.ForeignKey("run.id"), primary_key=True),
        sa.Column("domain", sa.String(64), nullable=False),
        sa.Column("data", sa.String(64), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
    )
    op.create_table(
        "trial",
        sa.Column("study_id", sa.String(32), sa.ForeignKey("study.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("point", sa.Integer(), nullable=False),
        sa.Column("architecture_id", sa.String(64), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.UniqueConstraint("study_id", "point", name="uq_trial_study_id_point"),
    )
    op.create_table(
        "study_job",
        sa.Column("study_id", sa.String(32), sa.ForeignKey("study.id"), primary_key=True),
        sa.Column("trial", sa.Integer(), primary_key=True),
        sa.Column("rung", sa.Integer(), primary_key=True),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("leased_until", sa.String(32), nullable=False),
        sa.Column("scores", sa.Text(), nullable=True),
        sa.Column("totals", sa.Text(), nullable=True),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("told_at", sa.String(32), nullable=True),
    )


def downgrade() -> None:
    """Go back."""
    for table in ("study_job", "trial", "study"):
        op.drop_table(table)
