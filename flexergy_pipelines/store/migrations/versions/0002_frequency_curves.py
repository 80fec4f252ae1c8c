"""P(f) curves: what the grid operator asks of an asset at each frequency."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TENANT = "nullif(current_setting('app.tenant', true), '')::int"


def upgrade() -> None:
    op.execute(
        f"""CREATE TABLE frequency_curves (
        tenant_id int NOT NULL DEFAULT {TENANT} REFERENCES tenants, site_id text NOT NULL, asset_id text NOT NULL,
        valid_from timestamptz NOT NULL, valid_until timestamptz, source text NOT NULL,
        points jsonb NOT NULL, tolerance_kw float8 NOT NULL CHECK (tolerance_kw > 0),
        received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (tenant_id, site_id, asset_id, valid_from),
        FOREIGN KEY (tenant_id, site_id) REFERENCES sites, CHECK (valid_until > valid_from))"""
    )
    op.execute("ALTER TABLE frequency_curves ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE frequency_curves FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON frequency_curves USING (tenant_id = {TENANT}) WITH CHECK (tenant_id = {TENANT})"
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON frequency_curves TO flexergy_app")


def downgrade() -> None:
    op.execute("DROP TABLE frequency_curves")
