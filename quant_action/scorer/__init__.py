"""Scoring of a model reloaded from its folder, in a process of its own: `python -m quant_action.scorer.worker CONTROL`."""
