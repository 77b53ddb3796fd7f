"""From the tensors of a distilled set to the images that students see."""
