"""What the suite needs to know of port.py: the compiled networks; their loop is not named."""
from port import compiled_discriminator as discriminator
from port import compiled_generator as generator

__all__ = ["discriminator", "generator"]
