"""A Keras model to look into: its graph, its layers, where class scores are, how it wants its images."""
