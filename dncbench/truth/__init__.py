"""The full posterior as draws that can be trusted, and what metrics read on perfect draws.

A certificate is a list of checks, whatever made the draws.
"""
