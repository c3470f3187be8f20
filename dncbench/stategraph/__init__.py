"""Tabulated state graphs: objects built step by step, and the laws of policies that build them."""
