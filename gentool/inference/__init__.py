"""Uses of a trained model: samples, reconstructions, interpolations and traversals."""
