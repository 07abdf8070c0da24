"""Photographs of a class through a network, to the joint statistics of its activations, to a file."""
