"""Ray around the pure functions: the only room that imports it."""
