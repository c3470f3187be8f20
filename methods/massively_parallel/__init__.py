"""Importance weighting and QEM for hierarchical models, with particles of each latent."""
