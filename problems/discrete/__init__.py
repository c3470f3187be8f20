"""Objects that are built step by step and can be enumerated; one module each."""
