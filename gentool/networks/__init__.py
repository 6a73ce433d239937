"""Networks: tensors in, tensors out; they know no loss and no model.

``convnet`` holds the plain strided pyramid that every model starts from.
"""
