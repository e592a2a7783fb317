"""A small stand-in for a model and its data, with which a run is rehearsed: whatever would fail after an hour fails in a minute."""
