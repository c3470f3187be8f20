"""Merges of laws on objects that can be enumerated; one module each."""
