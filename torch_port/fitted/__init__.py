"""The article's generator, fitted to some faces: pictures that show something, in a minute."""
