"""Evaluation: what is measured of a pipeline, with the protocol that made each number."""
