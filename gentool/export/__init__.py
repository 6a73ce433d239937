"""Models for programs outside gentool: ONNX, torch.export and a folder for a model hub."""
