"""Replay: change the local pipeline in the ways such pipelines go wrong, until its logits are the other run's.

`interventions` is the list of ways, `trials` runs them on a few notes, `search` combines them, `reported` works from
scores alone.
"""
