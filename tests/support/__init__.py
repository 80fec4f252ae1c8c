"""What the tests share: the requirement report and a real PostgreSQL for each test."""
