"""What `smpcfl simulate` relies on in Flower's simulation engine, which is not Flower's public interface."""

from __future__ import annotations

import inspect

from flwr.superlink.grid import InMemoryGrid

from smpcfl.flower.server.simulated import _innermost
from smpcfl.flower.server.taken_over import OwnGrid
from smpcfl.simulation import engine


def test_the_engine_takes_what_it_is_given() -> None:
    found = inspect.signature(engine._run_simulation).parameters
    given = {"num_supernodes", "client_app_attr", "server_app_attr", "server_app_context"}
    assert given | {"backend_config", "app_dir", "run", "is_app", "exit_event"} <= found.keys()


def test_its_grid_is_known_by_its_name_through_whatever_is_around_it() -> None:
    grid = InMemoryGrid.__new__(InMemoryGrid)
    assert type(_innermost(OwnGrid(OwnGrid(grid)))).__name__ == "InMemoryGrid"
