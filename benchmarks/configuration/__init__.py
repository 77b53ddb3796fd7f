"""Configuration files in layers, and what to say of mistakes in them."""
