"""Methods of the field, each a recipe of losses on the one loop."""
