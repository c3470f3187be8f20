"""Methods for objects that are built step by step; one module each."""
