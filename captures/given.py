"""What every command line refuses, whatever the command: an empty path, which would be taken for
the folder that one happens to be in, and a number that is none.

Plain Python 3.6: it knows a command by its parameters, not the library that made it.
"""
from pathlib import Path
from typing import Any, Callable, Type, TypeVar

Command = TypeVar("Command")


def checked(command: Command, error: Type[Exception]) -> Command:
    """The command, whose parameters are looked at from now on, and those of the commands in it.

    error: what is raised, with a text and ``param``, and becomes the message.
    """
    for one in getattr(command, "commands", {}).values():
        checked(one, error)
    for param in getattr(command, "params", ()):
        param.process_value = _process(param, param.process_value, error)
    return command


def _process(param: Any, process: Callable[[Any, Any], Any], error: Type[Exception]
             ) -> Callable[[Any, Any], Any]:
    def look(context: Any, given: Any) -> Any:
        if is_of(param, Path) and any(one == "" for one in _each(given)):
            raise error("it is empty: give a path, \".\" for the folder that you are in",
                        param=param)  # type: ignore[call-arg]
        value = process(context, given)
        for one in _each(value):
            if isinstance(one, float) and one - one != 0:
                raise error("%s is not a finite number" % one,
                            param=param)  # type: ignore[call-arg]
        return value
    return look


def _each(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else (value,)


def is_of(param: Any, kind: type) -> bool:
    annotation = getattr(getattr(param, "type_descriptor", None), "annotation", None)
    return kind in (annotation, *getattr(annotation, "__args__", ()))
