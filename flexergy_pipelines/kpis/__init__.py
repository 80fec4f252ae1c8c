"""Energy statistics and key performance indicators."""

from flexergy_pipelines.kpis.accounting import account_day, account_month, account_period, account_year

__all__ = ["account_day", "account_month", "account_period", "account_year"]
