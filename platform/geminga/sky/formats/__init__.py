"""Event lists, counts and exposure maps in the layouts of the LAT's own tools."""
