"""The networks of `benchmarks.networks` in PyTorch on the CPU, as someone skilled would write them.

Modules hold the weights; the optimisers are fused; compiled, forward with its loss and backward are
one graph each. A batch is picked from the data by index.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Convolutional(nn.Module):
    """28 x 28, two times convolution, relu and pooling, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.head = nn.Linear(7 * 7 * 32, 10)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return self.head(x.flatten(1))

    def pairs(self):
        """Each parameter by fastbp's name, with its array there for PyTorch, and back."""
        pairs = {}
        for name in ("conv1", "conv2"):
            conv = getattr(self, name)
            pairs[f"{name}.weight"] = conv.weight, (3, 2, 0, 1), (2, 3, 1, 0)
            pairs[f"{name}.bias"] = conv.bias, None, None
        pairs["head.weight"] = self.head.weight, (1, 0), (1, 0)
        pairs["head.bias"] = self.head.bias, None, None
        return pairs

    def arranged(self, name, array, back):
        """The linear layer's inputs are channels first here, and last there."""
        if name != "head.weight":
            return array
        grid = (10, 7, 7, 32) if not back else (10, 32, 7, 7)
        return (
            array.reshape(grid)
            .transpose((0, 3, 1, 2) if not back else (0, 2, 3, 1))
            .reshape(10, -1)
        )


class Block(nn.Module):
    """Attention and two linear layers, each on a normalised copy and added to what it came from."""

    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        n, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(*qkv.unbind(0), is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(n, length, width))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Pre-norm and causal; positions are learnt."""

    def __init__(self, length, width, heads, layers, hidden, vocabulary):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(length, width))
        self.layers = nn.ModuleList(Block(width, heads, hidden) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, x):
        x = self.tokens(x) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)).flatten(0, 1)

    def pairs(self):
        pairs = {"tokens": (self.tokens.weight, None, None)}
        for name, parameter in self.named_parameters():
            turned = (1, 0) if parameter.ndim == 2 and name.endswith(".weight") else None
            pairs.setdefault(name, (parameter, turned, turned))
        del pairs["tokens.weight"]
        return pairs


class LSTM(nn.Module):
    """One layer, and a linear one from its last step."""

    def __init__(self, features, units):
        super().__init__()
        self.lstm = nn.LSTM(features, units, batch_first=True)
        self.head = nn.Linear(units, 1)
        nn.init.zeros_(self.lstm.bias_hh_l0)  # fastbp has one bias for both products

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])

    def pairs(self):
        return {
            "lstm.input.weight": (self.lstm.weight_ih_l0, (1, 0), (1, 0)),
            "lstm.input.bias": (self.lstm.bias_ih_l0, None, None),
            "lstm.recurrent": (self.lstm.weight_hh_l0, (1, 0), (1, 0)),
            "head.weight": (self.head.weight, (1, 0), (1, 0)),
            "head.bias": (self.head.bias, None, None),
        }


def built(name):
    from benchmarks import networks as sizes

    if name == "convolutional":
        return Convolutional()
    if name == "LSTM":
        return LSTM(sizes.FEATURES, sizes.UNITS)
    return Transformer(
        sizes.LENGTH, sizes.WIDTH, sizes.HEADS, sizes.LAYERS, sizes.HIDDEN, sizes.VOCABULARY
    )


class TorchNetwork:
    """A network with fastbp's starting weights.

    Parameters
    ----------
    network : benchmarks.networks.Network
    dtype : {numpy.float32, numpy.float64}
    n_threads : int
        For all of PyTorch, in the whole process.
    layout : {"", "channels last"}
        Of images and of the weights of convolutions.
    compiled : bool
        By `torch.compile`, for a batch of exactly this size. Compilation is in the first call.
    """

    def __init__(self, network, dtype, n_threads, *, layout="", compiled=False):
        torch.set_num_threads(n_threads)
        self.network, self.channels_last = network, layout == "channels last"
        self.dtype = torch.float32 if dtype == np.float32 else torch.float64
        self.module = built(network.name).to(self.dtype)
        for name, array in network.start(dtype).items():
            parameter, axes, _ = self.module.pairs()[name]
            array = self._arranged(name, array if axes is None else array.transpose(axes), False)
            parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(array)))
        if self.channels_last:
            self.module = self.module.to(memory_format=torch.channels_last)
        self.loss = self._loss
        if compiled:
            torch._dynamo.reset()
            self.loss = torch.compile(self._loss, dynamic=False)

    def _arranged(self, name, array, back):
        arranged = getattr(self.module, "arranged", None)
        return array if arranged is None else arranged(name, array, back)

    def _loss(self, x, t):
        z = self.module(x)
        if self.network.loss == "squared_error":
            return 0.5 * functional.mse_loss(z, t)
        return functional.cross_entropy(z, t.flatten())

    def arrays(self, X, y):
        """The data as the module takes them."""
        X, y = torch.from_numpy(X), torch.from_numpy(y)
        if X.ndim == 4:  # of channels last, which is no copying where it is wanted so
            X = X.permute(0, 3, 1, 2)
            X = X if self.channels_last else X.contiguous()
        if not X.is_floating_point():
            X = X.long()
        return X, y if y.is_floating_point() else y.long()

    def loss_and_gradient(self, X, y):
        """Of one batch; the gradient as fastbp's flat one."""
        self.module.zero_grad()
        loss = self._loss(*self.arrays(X, y))
        loss.backward()
        parts = []
        for name in self.network.graph.parameters:
            parameter, _, axes = self.module.pairs()[name]
            array = self._arranged(name, parameter.grad.numpy(), True)
            parts.append((array if axes is None else array.transpose(axes)).ravel())
        return loss.item(), np.concatenate(parts)

    def fit(self, X, y):
        """A function that trains one epoch."""
        X, y = self.arrays(X, y)
        rule = torch.optim.AdamW if self.network.rule == "adamw" else torch.optim.Adam
        optimiser = rule(self.module.parameters(), lr=1e-3, fused=True)

        def epoch():
            for picked in torch.randperm(len(X)).split(self.network.batch):
                x, t = X.index_select(0, picked), y.index_select(0, picked)
                if self.channels_last:
                    x = x.contiguous(memory_format=torch.channels_last)
                optimiser.zero_grad(set_to_none=True)
                self.loss(x, t).backward()
                optimiser.step()

        return epoch
