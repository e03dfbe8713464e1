"""TODO."""
import numpy as np


def sampled(array, count=256):
    """At most ``count`` values at places that depend on the size alone: for distances of runs."""
    flat = np.ravel(array)
    if flat.size <= count:
        return flat
    return flat[np.random.RandomState(flat.size % 2 ** 32).randint(0, flat.size, count)]


def moved_by_one_ulp(array, seed):
    """Every value moved to its neighbour, up or down as a coin of ``seed`` falls; 0 stays."""
    up = np.random.RandomState(seed).randint(0, 2, array.shape).astype(bool)
    towards = np.where(up, np.float32(np.inf), np.float32(-np.inf))
    return np.where(array == 0, array, np.nextafter(array, towards)).astype(np.float32)


def changed(before, after):
    """The names whose arrays are not the same bits, in the order of ``before``: a ledger's line."""
    return [name for name in before if not np.array_equal(
        np.asarray(before[name]).view(np.uint8).ravel() if np.ndim(before[name]) else before[name],
        np.asarray(after[name]).view(np.uint8).ravel() if np.ndim(after[name]) else after[name])]


def events(step, before, after):
    """What a step changed, in order of the names: [step, name, by how much].

    The amount is given for counts; for all else it is that the bits changed.
    """
    made = []
    for name in sorted(changed(before, after)):
        whole = np.asarray(before[name]).dtype.kind == "i"
        made.append([step, name, int(after[name]) - int(before[name]) if whole else "changed"])
    return made


def ledger(states):
    """The events of a D step and a G step, in order; states: before, between and after."""
    return events("d_step", states[0], states[1]) + events("g_step", states[1], states[2])


def of_step(values, network):
    """What the step of ``network`` may move, as (name, array): all of that network, and the other's
    running statistics. That nothing else moved is in the ledger."""
    return [(name, value) for name, value in values.items()
            if name.startswith(network + "/") or name.rpartition("/")[2] in (
                "running_mean", "running_variance", "sample_count")]
