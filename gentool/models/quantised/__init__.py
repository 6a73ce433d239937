"""Autoencoders whose latents are codes, and the transformer that draws codes."""
