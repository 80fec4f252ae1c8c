"""First schema: sites, points, time series, plans, operation, users; row-level security on all of it."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TENANT = "nullif(current_setting('app.tenant', true), '')::int"
OWN = f"tenant_id int NOT NULL DEFAULT {TENANT} REFERENCES tenants"
SITE = "site_id text NOT NULL, FOREIGN KEY (tenant_id, site_id) REFERENCES sites"
QUANTILES = ", ".join(f"p{q} float8" for q in range(10, 100, 10))

TABLES = {
    "sites": f"""{OWN}, site_id text NOT NULL, name text NOT NULL, kind text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant_id, site_id)""",
    "site_versions": f"""{OWN}, {SITE}, version int NOT NULL, valid_from timestamptz NOT NULL DEFAULT clock_timestamp(),
        actor text NOT NULL, config jsonb NOT NULL, PRIMARY KEY (tenant_id, site_id, version)""",
    "points": f"""{OWN}, point_id int GENERATED ALWAYS AS IDENTITY, {SITE}, asset_id text NOT NULL,
        quantity text NOT NULL, unit text NOT NULL DEFAULT '', active boolean NOT NULL DEFAULT true,
        PRIMARY KEY (tenant_id, point_id), UNIQUE (tenant_id, site_id, asset_id, quantity)""",
    "sources": f"""{OWN}, source_id smallint GENERATED ALWAYS AS IDENTITY, name text NOT NULL,
        PRIMARY KEY (tenant_id, source_id), UNIQUE (tenant_id, name)""",
    "reading_corrections": f"""{OWN}, correction_id bigint GENERATED ALWAYS AS IDENTITY, point_id int NOT NULL,
        time timestamptz NOT NULL, old_value float8, old_quality smallint NOT NULL, old_source_id smallint NOT NULL,
        new_source_id smallint NOT NULL, replaced_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (tenant_id, correction_id), FOREIGN KEY (tenant_id, point_id) REFERENCES points""",
    "forecast_runs": f"""{OWN}, run_id bigint GENERATED ALWAYS AS IDENTITY, {SITE}, asset_id text NOT NULL,
        quantity text NOT NULL, issued_at timestamptz NOT NULL, model text NOT NULL, model_version text NOT NULL,
        fallback_level smallint NOT NULL, reason text NOT NULL DEFAULT '',
        created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant_id, run_id)""",
    "forecast_values": f"""{OWN}, run_id bigint NOT NULL, time timestamptz NOT NULL, value float8, {QUANTILES},
        PRIMARY KEY (tenant_id, run_id, time),
        FOREIGN KEY (tenant_id, run_id) REFERENCES forecast_runs ON DELETE CASCADE""",
    "weather": f"""{OWN}, {SITE}, provider text NOT NULL, issued_at timestamptz NOT NULL, time timestamptz NOT NULL,
        shortwave_radiation_w_m2 float8, temperature_2m_c float8, wind_speed_10m_ms float8,
        wind_speed_100m_ms float8, cloud_cover_pct float8,
        PRIMARY KEY (tenant_id, site_id, issued_at, provider, time)""",
    "prices": f"""{OWN}, {SITE}, kind text NOT NULL, time timestamptz NOT NULL, known_at timestamptz NOT NULL,
        price_eur_per_kwh float8 NOT NULL, resolution_minutes int NOT NULL CHECK (resolution_minutes > 0),
        PRIMARY KEY (tenant_id, site_id, kind, time, known_at)""",
    "plans": f"""{OWN}, plan_id bigint GENERATED ALWAYS AS IDENTITY, {SITE}, version int NOT NULL, kind text NOT NULL,
        created_at timestamptz NOT NULL, period_start timestamptz NOT NULL, period_end timestamptz NOT NULL,
        step_minutes int NOT NULL CHECK (step_minutes > 0), status text NOT NULL, gap float8, objective_eur float8,
        bound_eur float8, no_storage_cost_eur float8, costs jsonb NOT NULL, violations jsonb NOT NULL,
        timings jsonb NOT NULL, inputs jsonb NOT NULL, CHECK (period_start < period_end),
        PRIMARY KEY (tenant_id, plan_id), UNIQUE (tenant_id, site_id, version)""",
    "plan_values": f"""{OWN}, plan_id bigint NOT NULL, asset_id text NOT NULL, quantity text NOT NULL,
        time timestamptz NOT NULL, value float8, PRIMARY KEY (tenant_id, plan_id, asset_id, quantity, time),
        FOREIGN KEY (tenant_id, plan_id) REFERENCES plans ON DELETE CASCADE""",
    "setpoints": f"""{OWN}, {SITE}, asset_id text NOT NULL, quantity text NOT NULL, time timestamptz NOT NULL,
        requested float8, sent float8, readback float8, layer text, reason text, plan_id bigint,
        valid_until timestamptz, status text NOT NULL,
        PRIMARY KEY (tenant_id, site_id, asset_id, quantity, time),
        FOREIGN KEY (tenant_id, plan_id) REFERENCES plans""",
    "live": f"""{OWN}, {SITE}, asset_id text NOT NULL, quantity text NOT NULL, time timestamptz NOT NULL,
        value float8, quality smallint NOT NULL, PRIMARY KEY (tenant_id, site_id, asset_id, quantity)""",
    "alarms": f"""{OWN}, alarm_id bigint GENERATED ALWAYS AS IDENTITY, {SITE}, asset_id text, code text NOT NULL,
        severity smallint NOT NULL CHECK (severity BETWEEN 1 AND 4), message text NOT NULL,
        first_at timestamptz NOT NULL DEFAULT clock_timestamp(), last_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        count int NOT NULL DEFAULT 1, cleared_at timestamptz, acknowledged_at timestamptz, acknowledged_by text,
        PRIMARY KEY (tenant_id, alarm_id)""",
    "replan_requests": f"""{OWN}, request_id bigint GENERATED ALWAYS AS IDENTITY, {SITE}, reason text NOT NULL,
        requested_at timestamptz NOT NULL DEFAULT clock_timestamp(), closed_at timestamptz,
        PRIMARY KEY (tenant_id, request_id)""",
    "commands": f"""{OWN}, command_id bigint GENERATED ALWAYS AS IDENTITY, {SITE}, asset_id text,
        quantity text NOT NULL, value float8, reason text NOT NULL, user_name text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(), valid_until timestamptz,
        status text NOT NULL DEFAULT 'open', message text, closed_at timestamptz, PRIMARY KEY (tenant_id, command_id)""",
    "kpis": f"""{OWN}, {SITE}, period_kind text NOT NULL, period_start timestamptz NOT NULL, scope text NOT NULL,
        kpi text NOT NULL, value float8, unit text NOT NULL, coverage float8, reference text,
        computed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (tenant_id, site_id, period_kind, period_start, scope, kpi)""",
    "meter_files": f"""{OWN}, file_id bigint GENERATED ALWAYS AS IDENTITY, {SITE}, name text NOT NULL,
        sha256 text NOT NULL, status text NOT NULL, rows bigint NOT NULL DEFAULT 0, rejected bigint NOT NULL DEFAULT 0,
        reason text, received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (tenant_id, file_id), UNIQUE (tenant_id, site_id, sha256)""",
    "users": f"""{OWN}, user_id int GENERATED ALWAYS AS IDENTITY, name text NOT NULL, role text NOT NULL
        CHECK (role IN ('administrator', 'operator', 'field_staff', 'viewer')), password_hash text NOT NULL,
        locked boolean NOT NULL DEFAULT false, valid_from timestamptz, valid_until timestamptz,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (tenant_id, user_id), UNIQUE (name)""",
    "sessions": f"""{OWN}, token_sha256 text NOT NULL, user_id int NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(), expires_at timestamptz NOT NULL,
        revoked_at timestamptz, PRIMARY KEY (token_sha256),
        FOREIGN KEY (tenant_id, user_id) REFERENCES users ON DELETE CASCADE""",
    "events": f"""{OWN}, event_id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
        actor text NOT NULL, kind text NOT NULL, site_id text, subject text, reason text,
        detail jsonb NOT NULL DEFAULT '{{}}', PRIMARY KEY (tenant_id, event_id)""",
}

PARTITIONED = {
    "readings": f"""tenant_id int NOT NULL DEFAULT {TENANT}, point_id int NOT NULL, time timestamptz NOT NULL,
        value float8, quality smallint NOT NULL, source_id smallint NOT NULL, PRIMARY KEY (tenant_id, point_id, time)""",
    "clean_readings": f"""tenant_id int NOT NULL DEFAULT {TENANT}, point_id int NOT NULL, time timestamptz NOT NULL,
        value float8, uncertainty float8, flag text, PRIMARY KEY (tenant_id, point_id, time)""",
}

INDEXES = [
    "CREATE INDEX ON forecast_runs (tenant_id, site_id, asset_id, quantity, issued_at DESC)",
    "CREATE INDEX ON weather (tenant_id, site_id, time, issued_at)",
    "CREATE INDEX ON plans (tenant_id, site_id, period_end)",
    "CREATE INDEX ON setpoints (tenant_id, site_id, time)",
    "CREATE INDEX ON reading_corrections (tenant_id, point_id, time)",
    "CREATE UNIQUE INDEX ON alarms (tenant_id, site_id, code, coalesce(asset_id, '')) WHERE cleared_at IS NULL",
    "CREATE INDEX ON commands (tenant_id, site_id) WHERE status = 'open'",
    "CREATE INDEX ON replan_requests (tenant_id) WHERE closed_at IS NULL",
    "CREATE INDEX ON events (tenant_id, at)",
    "CREATE INDEX ON sessions (tenant_id, user_id)",
]

# Runs with the owner's rights, so that the application needs none to create tables; it can do nothing but this.
# ATTACH PARTITION blocks neither readers nor writers of the parent, PARTITION OF would.
ENSURE_PARTITIONS = """
CREATE FUNCTION ensure_month_partitions(first timestamptz, last timestamptz) RETURNS int
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
    FOREACH parent IN ARRAY ARRAY['readings', 'clean_readings'] LOOP
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
REVOKE ALL ON FUNCTION ensure_month_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_month_partitions TO flexergy_app;
"""

LOGIN_ATTEMPTS = f"""
CREATE TABLE login_attempts (
  attempt_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id int DEFAULT {TENANT} REFERENCES tenants,
  name text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(), succeeded boolean NOT NULL, reason text NOT NULL);
CREATE INDEX ON login_attempts (name, at);
ALTER TABLE login_attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE login_attempts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON login_attempts USING (tenant_id IS NOT DISTINCT FROM {TENANT});
GRANT SELECT, INSERT ON login_attempts TO flexergy_app;
"""

# A login knows a name, a request knows a token, before either knows the tenant: each may see just that one row.
DOORS = """
CREATE POLICY login ON users FOR SELECT USING (name = nullif(current_setting('app.login', true), ''));
CREATE POLICY token ON sessions FOR SELECT USING (token_sha256 = nullif(current_setting('app.token_sha256', true), ''));
"""

APPEND_ONLY = {"events", "reading_corrections"}


def _protect(table: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} USING (tenant_id = {TENANT}) WITH CHECK (tenant_id = {TENANT})")
    rights = "SELECT, INSERT" if table in APPEND_ONLY else "SELECT, INSERT, UPDATE, DELETE"
    op.execute(f"GRANT {rights} ON {table} TO flexergy_app")


def upgrade() -> None:
    op.execute(
        "CREATE TABLE tenants (tenant_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE "
        "CHECK (name <> ''), created_at timestamptz NOT NULL DEFAULT now())"
    )
    op.execute("GRANT SELECT, INSERT ON tenants TO flexergy_app")
    op.execute("GRANT SELECT ON alembic_version TO flexergy_app")
    for table, columns in TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
        _protect(table)
    for table, columns in PARTITIONED.items():
        op.execute(f"CREATE TABLE {table} ({columns}) PARTITION BY RANGE (time)")
        _protect(table)
    for index in INDEXES:
        op.execute(index)
    op.execute("ALTER TABLE live SET (fillfactor = 50)")
    op.execute(ENSURE_PARTITIONS)
    op.execute(LOGIN_ATTEMPTS)
    op.execute(DOORS)


def downgrade() -> None:
    for table in (*PARTITIONED, *reversed(TABLES), "login_attempts"):
        op.execute(f"DROP TABLE {table} CASCADE")
    op.execute("DROP FUNCTION ensure_month_partitions")
    op.execute("DROP TABLE tenants")
