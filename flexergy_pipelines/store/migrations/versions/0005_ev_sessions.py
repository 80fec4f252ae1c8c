"""Charging sessions: when cars came and left, and what they took."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TENANT = "nullif(current_setting('app.tenant', true), '')::int"


def upgrade() -> None:
    op.execute(
        f"""CREATE TABLE ev_sessions (
        tenant_id int NOT NULL DEFAULT {TENANT} REFERENCES tenants, site_id text NOT NULL, asset_id text NOT NULL,
        charge_point text NOT NULL, session_id text NOT NULL, arrival timestamptz NOT NULL,
        departure timestamptz NOT NULL, energy_kwh float8 NOT NULL CHECK (energy_kwh >= 0),
        max_power_kw float8 CHECK (max_power_kw > 0), soc_start float8 CHECK (soc_start BETWEEN 0 AND 1),
        soc_end float8 CHECK (soc_end BETWEEN 0 AND 1),
        PRIMARY KEY (tenant_id, site_id, asset_id, charge_point, session_id),
        FOREIGN KEY (tenant_id, site_id) REFERENCES sites, CHECK (departure > arrival))"""
    )
    op.execute("CREATE INDEX ON ev_sessions (tenant_id, site_id, asset_id, arrival)")
    op.execute("ALTER TABLE ev_sessions ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE ev_sessions FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON ev_sessions USING (tenant_id = {TENANT}) WITH CHECK (tenant_id = {TENANT})")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ev_sessions TO flexergy_app")


def downgrade() -> None:
    op.execute("DROP TABLE ev_sessions")
