"""Photographs in, pictures out: files, folders, sheets, animations, colours, and HTML of them."""

#: What a judge is called that looks for faces. Here, where it takes no NumPy to know it: `--help` waits for none.
FACES = "faces"
