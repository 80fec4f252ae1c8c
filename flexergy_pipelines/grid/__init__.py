"""The grid model: sites, controllers, assets, points, tariffs, device templates, and the replayed sample plant."""
