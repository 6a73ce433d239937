"""What a trained model is used for: samples, reconstructions, interpolations, traversals."""
