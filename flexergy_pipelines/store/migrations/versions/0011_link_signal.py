"""How strong the signal of a link was, where its device tells."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE link_statistics ADD COLUMN signal_dbm double precision")


def downgrade() -> None:
    op.execute("ALTER TABLE link_statistics DROP COLUMN signal_dbm")
