"""Autoencoders with continuous latents: the autoencoder, the VAE and its variants."""
