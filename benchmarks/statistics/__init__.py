"""What can be said of rows: differences, effects, robustness, stability."""
