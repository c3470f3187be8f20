"""Draws from log densities: many-chain NUTS, its starts and adaptation, and a second sampler.

With the diagnostics that say what the draws are worth.
"""
