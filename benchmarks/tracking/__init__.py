"""Where curves and sets go besides the output folder: CSV files and Weights & Biases."""
