"""Other programs that show how a training goes: TensorBoard, Trackio and Weights & Biases."""
