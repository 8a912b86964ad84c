"""Linear algebra and the likelihood kernel, exponential-family identities and the index cipher."""
