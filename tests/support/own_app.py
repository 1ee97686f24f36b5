"""A Flower app such as a user brings: it learns the mean of numbers, and saves it. It needs numpy alone.

Each peer's numbers are in a file, named after its `partition-id`, in the folder that its operator gives as
`data`; without one, every peer takes its slice of the same ones. Nothing is evaluated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from support.app_folder import write_app

ROUNDS = 2
RATE = 0.5
SAVED = "mean.txt"

CLIENT = f"""
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from smpcfl.flower import secure_mod

app = ClientApp(mods=[secure_mod])


@app.train()
def train(message, context):
    node = context.node_config
    index, slices = node["partition-id"], node["num-partitions"]
    if "data" in node:
        data = np.loadtxt(f"{{node['data']}}/{{index}}.txt")
    else:
        data = np.linspace(0.0, 1.0, 3000)[index::slices]
    mean = message.content["arrays"]["mean"].numpy()
    arrays = ArrayRecord({{"mean": Array(mean + {RATE} * (data.mean() - mean))}})
    metrics = MetricRecord({{"num-examples": len(data)}})
    return Message(RecordDict({{"arrays": arrays, "metrics": metrics}}), reply_to=message)
"""
SERVER = f"""
import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from smpcfl.flower import SecureStrategy

app = ServerApp()


@app.main()
def main(grid, context):
    # Everybody is waited for, on a slow machine too: what is learnt is compared with all numbers.
    strategy = SecureStrategy(FedAvg(fraction_evaluate=0.0), grace_s=120.0)
    initial = ArrayRecord({{"mean": Array(np.zeros(1))}})
    result = strategy.start(grid, initial, num_rounds=context.run_config["num-server-rounds"])
    np.savetxt("{SAVED}", result.arrays["mean"].numpy())
"""


def written(folder: Path, imports: str = "") -> Path:
    """The app in `folder`, made if need be; both of its sides import the packages `imports`."""
    modules = {
        "__init__": f"import {imports}\n" if imports else "",
        "client": CLIENT,
        "server": SERVER,
    }
    config = f"num-server-rounds = {ROUNDS}"
    return write_app(
        folder, "means", modules, server="server:app", client="client:app", config=config
    )


def numbers(folder: Path, peers: int) -> npt.NDArray[np.float64]:
    """A file for each peer, not all of one size, none beyond the weight cap; all numbers, shape (n,)."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [np.linspace(0.0, 1.0, 700 + 30 * i) ** (1 + i) for i in range(peers)]
    for index, part in enumerate(parts):
        np.savetxt(folder / f"{index}.txt", part)
    return np.concatenate(parts)


def learnt(data: npt.NDArray[np.float64], rounds: int = ROUNDS) -> float:
    """What the app comes to over all these numbers."""
    return float(data.mean() * (1 - (1 - RATE) ** rounds))
