"""Metrics: how far merged draws are from reference draws, one module for each family.

The contract is in :mod:`dncbench.metrics.sample`.
"""
