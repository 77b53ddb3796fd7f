"""The theory behind the method, measured: rates of quantisation, dimension of latents, gaps between gradients."""
