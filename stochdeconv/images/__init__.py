"""Photographs in, pictures out: files, folders, sheets, animations, colours, and HTML of them."""
