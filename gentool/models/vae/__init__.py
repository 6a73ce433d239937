"""Autoencoders with continuous latents: the autoencoder, the VAE, and what grew from them."""
