"""What synthetic images are made to match, as functions of tensors: gradients, features."""
