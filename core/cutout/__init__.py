"""Background removal: from masks to cutouts with soft, clean edges."""
