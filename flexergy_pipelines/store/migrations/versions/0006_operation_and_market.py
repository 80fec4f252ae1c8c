"""Operation and market: scheduled modes, planning settings, prices and sales of ancillary services, planned outages."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TENANT = "nullif(current_setting('app.tenant', true), '')::int"
OWNED = f"tenant_id int NOT NULL DEFAULT {TENANT} REFERENCES tenants, site_id text NOT NULL"
SITE = "FOREIGN KEY (tenant_id, site_id) REFERENCES sites"
TABLES = {
    "mode_schedule": f"""CREATE TABLE mode_schedule (
        entry_id bigint GENERATED ALWAYS AS IDENTITY, {OWNED}, mode text NOT NULL, parameters jsonb NOT NULL,
        starts_at timestamptz NOT NULL, ends_at timestamptz CHECK (ends_at > starts_at),
        reason text NOT NULL, created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        cancelled_at timestamptz, cancelled_by text, PRIMARY KEY (tenant_id, entry_id), {SITE})""",
    "planning_settings": f"""CREATE TABLE planning_settings (
        change_id bigint GENERATED ALWAYS AS IDENTITY, {OWNED}, settings jsonb NOT NULL,
        changed_at timestamptz NOT NULL DEFAULT clock_timestamp(), changed_by text NOT NULL,
        PRIMARY KEY (tenant_id, change_id), {SITE})""",
    "ancillary_prices": f"""CREATE TABLE ancillary_prices (
        {OWNED}, product text NOT NULL, direction text NOT NULL CHECK (direction IN ('up', 'down', 'both')),
        time timestamptz NOT NULL, resolution_minutes int NOT NULL CHECK (resolution_minutes > 0),
        capacity_price_eur_per_kw_h float8, activation_price_eur_per_kwh float8, known_at timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, site_id, product, direction, time, known_at), {SITE})""",
    "market_transactions": f"""CREATE TABLE market_transactions (
        {OWNED}, market text NOT NULL, transaction_id text NOT NULL, product text NOT NULL,
        direction text NOT NULL CHECK (direction IN ('up', 'down', 'both')),
        starts_at timestamptz NOT NULL, ends_at timestamptz NOT NULL CHECK (ends_at > starts_at),
        power_kw float8 NOT NULL CHECK (power_kw >= 0), price_eur_per_kw_h float8 NOT NULL,
        received_at timestamptz NOT NULL, PRIMARY KEY (tenant_id, site_id, market, transaction_id), {SITE})""",
    "asset_outages": f"""CREATE TABLE asset_outages (
        outage_id bigint GENERATED ALWAYS AS IDENTITY, {OWNED}, asset_id text NOT NULL,
        starts_at timestamptz NOT NULL, ends_at timestamptz NOT NULL CHECK (ends_at > starts_at),
        reason text NOT NULL, created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        cancelled_at timestamptz, PRIMARY KEY (tenant_id, outage_id), {SITE})""",
}
INDEXES = (
    "CREATE INDEX ON mode_schedule (tenant_id, site_id, starts_at)",
    "CREATE INDEX ON planning_settings (tenant_id, site_id, change_id)",
    "CREATE INDEX ON ancillary_prices (tenant_id, site_id, time)",
    "CREATE INDEX ON market_transactions (tenant_id, site_id, starts_at)",
    "CREATE INDEX ON asset_outages (tenant_id, site_id, starts_at)",
)


def upgrade() -> None:
    for table, statement in TABLES.items():
        op.execute(statement)
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} USING (tenant_id = {TENANT}) WITH CHECK (tenant_id = {TENANT})")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO flexergy_app")
    for statement in INDEXES:
        op.execute(statement)


def downgrade() -> None:
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
