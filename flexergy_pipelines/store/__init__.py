"""The store: PostgreSQL engine, tables and migrations, time-series read and write, tenancy."""
