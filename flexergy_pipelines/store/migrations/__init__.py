"""Schema versions of the store, run by `Store.migrate`."""
