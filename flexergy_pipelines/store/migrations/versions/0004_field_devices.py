"""Field devices: found ones that wait for approval, statistics of links, tags of drivers, keys of charge points."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TENANT = "nullif(current_setting('app.tenant', true), '')::int"
TABLES = {
    "device_proposals": f"""CREATE TABLE device_proposals (
        proposal_id bigint GENERATED ALWAYS AS IDENTITY,
        tenant_id int NOT NULL DEFAULT {TENANT} REFERENCES tenants, site_id text NOT NULL,
        protocol text NOT NULL, address text NOT NULL, identity jsonb NOT NULL, template text,
        status text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'approved', 'rejected')),
        found_at timestamptz NOT NULL DEFAULT clock_timestamp(), seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        decided_at timestamptz, decided_by text, device_id text,
        PRIMARY KEY (tenant_id, proposal_id), UNIQUE (tenant_id, site_id, protocol, address),
        FOREIGN KEY (tenant_id, site_id) REFERENCES sites)""",
    "link_statistics": f"""CREATE TABLE link_statistics (
        tenant_id int NOT NULL DEFAULT {TENANT} REFERENCES tenants, site_id text NOT NULL, device_id text NOT NULL,
        time timestamptz NOT NULL, connected boolean NOT NULL, requests int NOT NULL, failures int NOT NULL,
        retries int NOT NULL, reconnects int NOT NULL, bytes_sent bigint NOT NULL, bytes_received bigint NOT NULL,
        latency_s float8, worst_latency_s float8, protocol text NOT NULL, network_type text, last_error text NOT NULL,
        PRIMARY KEY (tenant_id, site_id, device_id, time), FOREIGN KEY (tenant_id, site_id) REFERENCES sites)""",
    "id_tags": f"""CREATE TABLE id_tags (
        tenant_id int NOT NULL DEFAULT {TENANT} REFERENCES tenants, id_tag text NOT NULL CHECK (length(id_tag) <= 20),
        holder text, status text NOT NULL DEFAULT 'accepted' CHECK (status IN ('accepted', 'blocked')),
        valid_until timestamptz, changed_at timestamptz NOT NULL DEFAULT clock_timestamp(), changed_by text NOT NULL,
        PRIMARY KEY (tenant_id, id_tag))""",
    "charge_point_keys": f"""CREATE TABLE charge_point_keys (
        tenant_id int NOT NULL DEFAULT {TENANT} REFERENCES tenants, site_id text NOT NULL, charge_point text NOT NULL,
        key_sha256 bytea NOT NULL CHECK (length(key_sha256) = 32),
        changed_at timestamptz NOT NULL DEFAULT clock_timestamp(), changed_by text NOT NULL,
        PRIMARY KEY (tenant_id, site_id, charge_point), FOREIGN KEY (tenant_id, site_id) REFERENCES sites)""",
}


def upgrade() -> None:
    for table, statement in TABLES.items():
        op.execute(statement)
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} USING (tenant_id = {TENANT}) WITH CHECK (tenant_id = {TENANT})")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO flexergy_app")


def downgrade() -> None:
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
