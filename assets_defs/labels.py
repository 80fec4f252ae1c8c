"""Words that the assets share in the UI: owners, kinds and tags."""

OWNERS = ["team:operations"]

FIELD_KINDS = {"python", "postgres"}
HTTP_KINDS = {"python", "postgres", "json"}
FRAME_KINDS = {"polars", "postgres"}
MODEL_KINDS = {"lightgbm", "prophet", "mlflow"}
FORECAST_KINDS = {"mlflow", "postgres"}
PLAN_KINDS = {"pyomo", "highs", "postgres"}

PLANNING_POOL = "planning"
TRAINING_POOL = "training"
CLEANING_POOL = "cleaning"
