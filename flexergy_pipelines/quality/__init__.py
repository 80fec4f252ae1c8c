"""Metering data quality: consistency rules, outliers, imputation."""
