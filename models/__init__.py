"""Where model weights come from and how a model is built from them. Imports ``core``, never ``nodes``."""
