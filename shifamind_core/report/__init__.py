"""Results as tables and CSV files that say where they come from."""
