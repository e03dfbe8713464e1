"""TensorBoard reads what is written; a full disk is said, and nothing waits."""
import os
from pathlib import Path

import pytest
import tensorboardX
from tensorboardX.proto.event_pb2 import Event

from captures.training.events import Events


def read(path):
    """The events of a file: 8 bytes of length, 4 of its checksum, the event, 4 of its checksum."""
    content, found = path.read_bytes(), []
    while content:
        size = int.from_bytes(content[:8], "little")
        found.append(Event.FromString(content[12:12 + size]))
        content = content[16 + size:]
    return found


def test_the_events(tmp_path):
    events = Events(tensorboardX, str(tmp_path), 5)
    events.add_scalar("G_loss", 0.5, 5)
    events.close()
    version, start, loss = read(next(tmp_path.iterdir()))
    assert version.file_version == "brain.Event:2" and start.session_log.status == 1
    assert [one.step for one in (version, start, loss)] == [5, 5, 5]
    assert (loss.summary.value[0].tag, loss.summary.value[0].simple_value) == ("G_loss", 0.5)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to try")
def test_a_full_disk_is_told_and_nothing_waits(tmp_path):
    events = Events(tensorboardX, str(tmp_path), 1)
    file = next(tmp_path.iterdir())
    with file.open("rb+") as held, Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), events._file._writer.fileno())
        assert held.read()
        with pytest.raises(OSError, match="No space left"):
            for step in range(1, 20000):
                events.add_scalar("G_loss", 0.5, step)
        with pytest.raises(OSError, match="No space left"):
            events.close()
