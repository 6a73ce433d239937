"""Autoencoders whose latents are codes, and a transformer that draws codes."""
