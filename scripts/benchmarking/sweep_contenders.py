"""Contenders of `sweeps`: functions that train networks of several widths, rates and seeds.

Each imports a library and returns a function from the size, the inputs and the labels to the final
losses [widths, rates, seeds], which are NaN where only a sample is trained.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

BATCH, EPOCHS, CLASSES = 64, 10, 10
JOINED_SEEDS = 2  # of every width in a network of ParallelMLPs


class Size(NamedTuple):
    """What is trained, and how many seeds PyTorch and ParallelMLPs take of it."""

    widths: tuple[int, ...] = (8, 12, 16, 24, 32, 48, 64, 80, 96, 128)
    rates: tuple[float, ...] = tuple(np.geomspace(0.001, 0.03, 10).tolist())
    seeds: int = 100
    single_seeds: int = 2
    joined_seeds: int = 10
    folder_seeds: int = 300
    compiled: int = 8


SIZES = {"full": Size(), "quick": Size((8, 32), (0.001, 0.01), 4, 2, 2, 4, 1)}


Train = Callable[[Size, np.ndarray, np.ndarray], np.ndarray]


def jaxnet_run(inputs: np.ndarray, labels: np.ndarray, epochs: int = EPOCHS) -> Callable[..., Any]:
    """`run(width, rate, key) -> (loss, parameters)`, to be swept."""
    import jax.numpy as jnp

    import jaxnet

    data, loss = (jnp.asarray(inputs), jnp.asarray(labels)), jaxnet.softmax_cross_entropy

    def run(width: int, rate: Any, key: Any) -> Any:
        network, sizes = jaxnet.mlp([64, width, CLASSES]), {"epochs": epochs, "batch_size": BATCH}
        state, _ = jaxnet.train(network, loss, jaxnet.adam(rate), data, key=key, **sizes)
        return loss(network.apply(state.parameters, data[0]), data[1]).mean(), state.parameters

    return run


def jaxnet_grid(rates: tuple[float, ...], seeds: int) -> dict[str, Any]:
    import jax

    return {"rate": rates, "key": jax.random.split(jax.random.key(0), seeds)}


def jaxnet_structural() -> Train:
    import jaxnet

    def train(size: Size, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        whole = jaxnet_run(inputs, labels)

        def run(width: int, rate: Any, key: Any) -> Any:
            return whole(width, rate, key)[0]

        grid = jaxnet_grid(size.rates, size.seeds)
        return jaxnet.sweep(run, grid, structural={"width": size.widths}).results

    return train


def jaxnet_separate() -> Train:
    import jaxnet

    def train(size: Size, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        whole = jaxnet_run(inputs, labels)
        grid = jaxnet_grid(size.rates, size.seeds)

        def sweep(width: int) -> np.ndarray:
            return jaxnet.sweep(lambda rate, key: whole(width, rate, key)[0], grid).results

        return np.stack([sweep(width) for width in size.widths])

    return train


def pytorch() -> Train:
    import torch
    import torch._dynamo  # which the first optimizer imports
    from torch.nn.functional import cross_entropy

    from benchmarking.peers import torch_network

    def train(size: Size, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        torch.set_num_threads(1)
        x, y = torch.tensor(inputs), torch.tensor(labels.astype(np.int64))

        def loss(width: int, rate: float, seed: int) -> float:
            torch.manual_seed(seed)
            network = torch_network((64, width, CLASSES))
            optimizer = torch.optim.Adam(network.parameters(), lr=rate, fused=True)
            for _ in range(EPOCHS):
                for rows in torch.randperm(len(x)).split(BATCH):
                    optimizer.zero_grad()
                    cross_entropy(network(x[rows]), y[rows]).backward()
                    optimizer.step()
            with torch.no_grad():
                return cross_entropy(network(x), y).item()

        losses = _missing(size)
        for i, j, seed in np.ndindex(*losses.shape[:2], size.single_seeds):
            losses[i, j, seed] = loss(size.widths[i], size.rates[j], seed)
        return losses

    return train


def torch_func() -> Train:
    import torch
    import torch._dynamo  # which the first optimizer imports
    from torch.func import functional_call, grad, stack_module_state, vmap
    from torch.nn.functional import cross_entropy

    from benchmarking.peers import torch_network

    def train(size: Size, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        x, y = torch.tensor(inputs), torch.tensor(labels.astype(np.int64))

        def all_seeds(width: int, rate: float) -> Any:
            networks = [torch_network((64, width, CLASSES)) for _ in range(size.seeds)]
            stacked, buffers = stack_module_state(networks)
            parameters = {name: stack.detach() for name, stack in stacked.items()}
            optimizer = torch.optim.Adam(parameters.values(), lr=rate, fused=True)

            def loss(parameters: Any, x: Any, y: Any) -> Any:
                return cross_entropy(functional_call(networks[0], (parameters, buffers), (x,)), y)

            slopes = vmap(grad(loss))
            for _ in range(EPOCHS):
                orders = torch.stack([torch.randperm(len(x)) for _ in networks])
                for rows in orders.split(BATCH, dim=1):
                    for name, slope in slopes(parameters, x[rows], y[rows]).items():
                        parameters[name].grad = slope
                    optimizer.step()
            return vmap(loss, (0, None, None))(parameters, x, y)

        torch.manual_seed(0)
        losses = _missing(size)
        for i, width in enumerate(size.widths):
            for j in range(i % 5, len(size.rates), 5):
                losses[i, j] = all_seeds(width, size.rates[j]).numpy()
        return losses

    return train


def parallel_mlps() -> Train:
    import torch
    import torch._dynamo  # which the first optimizer imports
    from torch.nn.functional import cross_entropy

    def uniform(scale: Any, *shape: int) -> Any:
        """`torch.nn.Linear`'s initial parameters: uniform up to 1 / sqrt(inputs)."""
        return ((2 * torch.rand(shape) - 1) * scale).requires_grad_()

    def train(size: Size, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        x, y = torch.tensor(inputs), torch.tensor(labels.astype(np.int64))
        widths = torch.tensor(size.widths).repeat_interleave(JOINED_SEEDS)
        count = len(widths)
        owners = torch.arange(count).repeat_interleave(widths)  # the network of every hidden unit
        scales = widths.view(-1, 1, 1) ** -0.5

        def joined(rate: float) -> Any:
            """The losses of one joined network, [widths * JOINED_SEEDS]."""
            units = len(owners)
            weights, biases = uniform(64**-0.5, units, 64), uniform(64**-0.5, units, 1)
            outgoing = uniform(scales[owners], units, CLASSES, 1)
            last = uniform(scales, count, CLASSES, 1)
            parameters = [weights, biases, outgoing, last]
            optimizer = torch.optim.Adam(parameters, lr=rate, fused=True)

            def outputs(x: Any) -> Any:
                """Of every network and class a row of the batch, [networks, classes, batch]."""
                hidden = torch.addmm(biases, weights, x.T).relu()
                products = hidden[:, None] * outgoing
                places = owners.view(-1, 1, 1).expand(products.shape)
                zeros = torch.zeros(count, CLASSES, len(x))
                return zeros.scatter_add(0, places, products) + last

            def losses(rows: Any) -> Any:
                targets = y[rows].expand(count, -1)
                return cross_entropy(outputs(x[rows]), targets, reduction="none")

            for _ in range(EPOCHS):
                for rows in torch.randperm(len(x)).split(BATCH):
                    optimizer.zero_grad()
                    losses(rows).mean(1).sum().backward()
                    optimizer.step()
            with torch.no_grad():
                parts = torch.arange(len(x)).split(BATCH)  # all rows do not fit into the caches
                return torch.cat([losses(rows) for rows in parts], dim=1).mean(1)

        torch.manual_seed(0)
        result = _missing(size)
        for j, rate in enumerate(size.rates):
            for seed in range(0, size.joined_seeds, JOINED_SEEDS):
                found = joined(rate).view(-1, JOINED_SEEDS)
                result[:, j, seed : seed + JOINED_SEEDS] = found.numpy()
        return result

    return train


def _missing(size: Size) -> np.ndarray:
    return np.full((len(size.widths), len(size.rates), size.seeds), np.nan)


CONTENDERS = {
    "jaxnet, structural": jaxnet_structural,
    "jaxnet, separate": jaxnet_separate,
    "PyTorch": pytorch,
    "torch.func": torch_func,
    "ParallelMLPs": parallel_mlps,
}
