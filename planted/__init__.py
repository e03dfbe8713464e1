"""Ports that are not ours, made from ours in the process that runs them.

A plant replaces named parts of the running ``torch_port`` (a function, a method, a number). There
are two sorts: correct ports, which compute the same formulas with other roundings
(``planted/correct.py``: nothing may be found in them), and mistakes (all of it has to be found).

    python -m planted --plants onednn torch_port.capture --plan ... (that module's own arguments)

Nothing imports this package; it imports what it replaces.
"""
