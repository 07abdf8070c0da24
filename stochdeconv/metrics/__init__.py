"""Figures that say how realistic and how varied images are; one file per family, plain NumPy."""
