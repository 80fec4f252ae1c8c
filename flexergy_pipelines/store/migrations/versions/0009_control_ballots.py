"""Ballots of the control loop's instances, for setpoints by majority."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TENANT = "nullif(current_setting('app.tenant', true), '')::int"


def upgrade() -> None:
    # Worth nothing a cycle later, so it is not logged.
    op.execute(
        f"""CREATE UNLOGGED TABLE control_ballots (
        tenant_id int NOT NULL DEFAULT {TENANT} REFERENCES tenants, name text NOT NULL, instance text NOT NULL,
        epoch bigint NOT NULL CHECK (epoch >= 0), cycle bigint NOT NULL CHECK (cycle >= 0),
        digest text NOT NULL, body text NOT NULL,
        PRIMARY KEY (tenant_id, name, instance))"""
    )
    op.execute("ALTER TABLE control_ballots ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE control_ballots FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON control_ballots USING (tenant_id = {TENANT}) WITH CHECK (tenant_id = {TENANT})"
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON control_ballots TO flexergy_app")


def downgrade() -> None:
    op.execute("DROP TABLE control_ballots")
