"""Leases of the control loop, for instances on different machines: who commands a site, and how far it has counted."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TENANT = "nullif(current_setting('app.tenant', true), '')::int"


def upgrade() -> None:
    op.execute(
        f"""CREATE TABLE control_leases (
        tenant_id int NOT NULL DEFAULT {TENANT} REFERENCES tenants, name text NOT NULL,
        holder text NOT NULL, epoch bigint NOT NULL CHECK (epoch >= 0), counter bigint NOT NULL CHECK (counter >= 0),
        PRIMARY KEY (tenant_id, name))"""
    )
    op.execute("ALTER TABLE control_leases ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE control_leases FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON control_leases USING (tenant_id = {TENANT}) WITH CHECK (tenant_id = {TENANT})")
    op.execute("GRANT SELECT, INSERT, UPDATE ON control_leases TO flexergy_app")


def downgrade() -> None:
    op.execute("DROP TABLE control_leases")
