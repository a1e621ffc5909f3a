"""From a mask to a cutout with soft, clean edges."""
