"""Energy by interval, quality by day, findings, days to do again, and bulk reading of meters."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TENANT = "nullif(current_setting('app.tenant', true), '')::int"
OWN = f"tenant_id int NOT NULL DEFAULT {TENANT} REFERENCES tenants"
SITE = "site_id text NOT NULL, FOREIGN KEY (tenant_id, site_id) REFERENCES sites"

TABLES = {
    "open_days": f"""{OWN}, {SITE}, day date NOT NULL, marked_at timestamptz NOT NULL, readings bigint NOT NULL,
        PRIMARY KEY (tenant_id, site_id, day)""",
    "meter_quality": f"""{OWN}, {SITE}, asset_id text NOT NULL, quantity text NOT NULL, day date NOT NULL,
        expected int NOT NULL CHECK (expected > 0), measured int NOT NULL, wrong int NOT NULL, estimated int NOT NULL,
        empty int NOT NULL, computed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (tenant_id, site_id, asset_id, quantity, day)""",
    "quality_findings": f"""{OWN}, {SITE}, check_name text NOT NULL, day date NOT NULL, subject text NOT NULL,
        expected float8, found float8, deviation float8, detail text NOT NULL,
        found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (tenant_id, site_id, check_name, day, subject)""",
    "bulk_jobs": f"""{OWN}, {SITE}, name text NOT NULL, meters text[] NOT NULL, reports text[] NOT NULL,
        period_minutes int NOT NULL CHECK (period_minutes > 0), attempts int NOT NULL CHECK (attempts > 0),
        timeout_s float8 NOT NULL CHECK (timeout_s > 0), enabled boolean NOT NULL DEFAULT true,
        changed_by text NOT NULL, changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (tenant_id, site_id, name)""",
    "meter_reads": f"""{OWN}, {SITE}, read_id bigint GENERATED ALWAYS AS IDENTITY, job text NOT NULL,
        meter text NOT NULL, concentrator text, at timestamptz NOT NULL, success boolean NOT NULL, attempts int NOT NULL,
        latency_s float8, expected int NOT NULL, received int NOT NULL, error text,
        PRIMARY KEY (tenant_id, read_id)""",
}

ENERGY = """tenant_id int NOT NULL DEFAULT {tenant}, point_id int NOT NULL, time timestamptz NOT NULL,
    forward_kwh float8, reverse_kwh float8, basis smallint NOT NULL, estimated boolean NOT NULL,
    PRIMARY KEY (tenant_id, point_id, time)"""

PARTITIONS = """
CREATE OR REPLACE FUNCTION ensure_month_partitions(first timestamptz, last timestamptz) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  month timestamp := date_trunc('month', first AT TIME ZONE 'UTC');
  final timestamp := date_trunc('month', last AT TIME ZONE 'UTC');
  parent text;
  part text;
  made int := 0;
BEGIN
  IF first < '1970-01-01Z' OR last >= '2200-01-01Z' OR first > last THEN
    RAISE EXCEPTION 'time range % to % is outside 1970 to 2199', first, last USING ERRCODE = '22023';
  END IF;
  WHILE month <= final LOOP
    FOREACH parent IN ARRAY ARRAY[{parents}] LOOP
      part := parent || '_' || to_char(month, 'YYYYMM');
      IF to_regclass('public.' || part) IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtext('ensure_month_partitions'));
        IF to_regclass('public.' || part) IS NULL THEN
          EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING ALL)', part, parent);
          EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', part);
          EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', part);
          EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
            parent, part, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
          made := made + 1;
        END IF;
      END IF;
    END LOOP;
    month := month + interval '1 month';
  END LOOP;
  RETURN made;
END $$;
"""


def _protect(table: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} USING (tenant_id = {TENANT}) WITH CHECK (tenant_id = {TENANT})")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO flexergy_app")


def upgrade() -> None:
    for table, columns in TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
        _protect(table)
    op.execute(f"CREATE TABLE energy_15min ({ENERGY.format(tenant=TENANT)}) PARTITION BY RANGE (time)")
    _protect("energy_15min")
    # The row of the present day changes with every write of telemetry.
    op.execute("ALTER TABLE open_days SET (fillfactor = 50)")
    op.execute("CREATE INDEX ON meter_reads (tenant_id, site_id, at)")
    op.execute(PARTITIONS.format(parents="'readings', 'clean_readings', 'energy_15min'"))


def downgrade() -> None:
    op.execute(PARTITIONS.format(parents="'readings', 'clean_readings'"))
    for table in ("energy_15min", *reversed(TABLES)):
        op.execute(f"DROP TABLE {table} CASCADE")
