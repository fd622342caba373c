"""Square patches of the sky: grid, images of expected and real photons, targets, records."""
