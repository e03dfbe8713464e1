"""The same files with the mend that the diagnosis names: they agree."""
latents = (100, 1, 1)
generator, discriminator = "mended_generator.onnx", "mended_discriminator.onnx"
