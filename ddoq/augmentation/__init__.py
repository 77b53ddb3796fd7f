"""Augmentation of batches on the device, with parameters of each image of its own."""
