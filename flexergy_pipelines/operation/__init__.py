"""Operation: supervision of plan against reality, alarms, re-plan requests, and the site summary."""
