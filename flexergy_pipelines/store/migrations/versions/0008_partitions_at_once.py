"""Months made by two writers at once: the second one looks again in the catalogue itself.

`to_regclass` answers from the session's cache, which waiting for an advisory lock does not renew, so that the second
writer failed on a table that the first had just made.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

FUNCTION = """
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
    FOREACH parent IN ARRAY ARRAY['readings', 'clean_readings', 'energy_15min'] LOOP
      part := parent || '_' || to_char(month, 'YYYYMM');
      IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = part) THEN
        PERFORM pg_advisory_xact_lock(hashtext('ensure_month_partitions'));
        {again}
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
FRESH = "IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = part) THEN"
CACHED = "IF to_regclass('public.' || part) IS NULL THEN"


def upgrade() -> None:
    op.execute(FUNCTION.format(again=FRESH))


def downgrade() -> None:
    op.execute(FUNCTION.format(again=CACHED))
