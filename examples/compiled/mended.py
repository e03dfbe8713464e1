"""The same port with the mends that the diagnosis names: it agrees."""
import port

from torch_port.translate.batch_norm import as_cntks


def generator():
    return as_cntks(port.compiled_generator())


def discriminator():
    return as_cntks(port.compiled_discriminator())
