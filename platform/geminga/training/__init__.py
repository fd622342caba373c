"""Training of any network on any iterable of batches; plain torch."""
