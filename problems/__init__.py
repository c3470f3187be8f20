"""Problems, one module each; a registered class is found by its decorator."""
