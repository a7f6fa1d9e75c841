"""The model's minibatch as a plain JAX program, in an environment with jax and optax.

    python jax_model_fit.py LOSS WIDTH LAYERS MEMBERS BATCH MINIBATCHES

One run is one jitted call: a scan over MINIBATCHES, each of them a gather of every member's rows, value and gradient
through batched products, and Adam with an L2 penalty. Hopper's dimensions.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from serve import serve

OBS_DIM, ACTION_DIM = 11, 3
WEIGHT_DECAY, STEP_SIZE = 1e-5, 3e-4


def initial_parameters(random, sizes, members, outputs, gaussian):
    """Weights (E, in, out) and biases (E, 1, out) of each layer, and the bounds of the log-variances."""
    layers = []
    for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
        weight = random.standard_normal((members, fan_in, fan_out)) / (2.0 * np.sqrt(fan_in))
        layers.append((jnp.asarray(weight, jnp.float32), jnp.zeros((members, 1, fan_out))))
    bounds = tuple(jnp.full((members, 1, outputs), value, jnp.float32) for value in (0.5, -10.0)) if gaussian else ()
    return layers, bounds


def predict(layers, inputs):
    """Outputs (E, B, out) of inputs (E, B, in)."""
    hidden = inputs
    for number, (weight, bias) in enumerate(layers):
        hidden = jnp.einsum("ebi,eio->ebo", hidden, weight) + bias
        if number < len(layers) - 1:
            hidden = jax.nn.silu(hidden)
    return hidden


def objective(parameters, inputs, targets, weights):
    """Weighted squared error, or Gaussian negative log-likelihood if there are bounds; summed over members."""
    layers, bounds = parameters
    outputs = predict(layers, inputs)
    if not bounds:
        return (weights * (outputs - targets) ** 2).sum(axis=-1).mean(axis=-1).sum()
    mean, raw = jnp.split(outputs, 2, axis=-1)
    upper, lower = bounds
    log_variance = upper - jax.nn.softplus(upper - raw)
    log_variance = lower + jax.nn.softplus(log_variance - lower)
    density = 0.5 * ((mean - targets) ** 2 * jnp.exp(-log_variance) + log_variance + np.log(2 * np.pi))
    penalty = 0.01 * jnp.maximum(upper - lower, 0.0).sum()
    return (weights * density).sum(axis=-1).mean(axis=-1).sum() + penalty


def make_run(loss, hidden, members, batch, minibatches):
    """The call that is timed."""
    rows = batch * minibatches
    random, gaussian, outputs = np.random.default_rng(0), loss == "nll", OBS_DIM + 1
    sizes = (OBS_DIM + ACTION_DIM, *hidden, 2 * outputs if gaussian else outputs)
    inputs, targets = (
        jnp.asarray(random.standard_normal((rows, width)), jnp.float32) for width in (OBS_DIM + ACTION_DIM, outputs)
    )
    weights = jnp.asarray(random.uniform(size=(rows if loss == "vagram" else 1, outputs)), jnp.float32)
    optimizer = optax.chain(optax.add_decayed_weights(WEIGHT_DECAY), optax.adam(STEP_SIZE))
    parameters = initial_parameters(random, sizes, members, outputs, gaussian)

    def minibatch(state, index):
        parameters, moments = state
        weight = weights[index] if loss == "vagram" else weights
        value, gradient = jax.value_and_grad(objective)(parameters, inputs[index], targets[index], weight)
        change, moments = optimizer.update(gradient, moments, parameters)
        return (optax.apply_updates(parameters, change), moments), value

    epoch = jax.jit(lambda state, index: jax.lax.scan(minibatch, state, index), donate_argnums=0)
    index = jnp.asarray(random.integers(rows, size=(minibatches, members, batch)))
    state = (parameters, optimizer.init(parameters))

    def run():
        nonlocal state
        state, losses = epoch(state, index)
        losses.block_until_ready()

    return run


def main():
    """Prepare, then serve."""
    loss, (width, layers, members, batch, minibatches) = sys.argv[1], map(int, sys.argv[2:7])
    serve(make_run(loss, [width] * layers, members, batch, minibatches))


if __name__ == "__main__":
    main()
