"""Orders of the grid operator: limits and setpoints of assets and of the exchange, each for a time."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TENANT = "nullif(current_setting('app.tenant', true), '')::int"


def upgrade() -> None:
    op.execute(
        f"""CREATE TABLE grid_orders (
        order_id bigint GENERATED ALWAYS AS IDENTITY,
        tenant_id int NOT NULL DEFAULT {TENANT} REFERENCES tenants, site_id text NOT NULL, asset_id text NOT NULL,
        minimum_kw float8, maximum_kw float8, setpoint_kw float8, ramp_kw_per_s float8 CHECK (ramp_kw_per_s > 0),
        starts_at timestamptz NOT NULL, ends_at timestamptz CHECK (ends_at > starts_at),
        source text NOT NULL, reason text NOT NULL, created_by text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(), withdrawn_at timestamptz, withdrawn_by text,
        PRIMARY KEY (tenant_id, order_id), FOREIGN KEY (tenant_id, site_id) REFERENCES sites,
        CHECK ((setpoint_kw IS NULL) <> (minimum_kw IS NULL AND maximum_kw IS NULL)),
        CHECK (minimum_kw <= maximum_kw), CHECK (setpoint_kw IS NULL OR ends_at IS NOT NULL))"""
    )
    op.execute("ALTER TABLE grid_orders ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE grid_orders FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON grid_orders USING (tenant_id = {TENANT}) WITH CHECK (tenant_id = {TENANT})")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON grid_orders TO flexergy_app")
    op.execute("CREATE INDEX ON grid_orders (tenant_id, site_id, starts_at)")


def downgrade() -> None:
    op.execute("DROP TABLE grid_orders")
