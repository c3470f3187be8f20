"""Records to ranked tables, summaries over problems and comparisons.

Reads records and nothing else; needs no JAX.
"""
