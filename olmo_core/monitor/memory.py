"""How much memory a device needs for a run, as arithmetic. Free of torch.

N parameters, of which a device keeps N/s (s shards: the ranks of FSDP, or those of one replica of
HSDP; 1 for DDP and one device); c bytes a number in products (4, or 2 under amp_bf16); m tokens of
a microbatch. Counted, in bytes:

- weights 4·N/s, Adam's moments 8·N/s, gradients 4·N/s, all float32; where FSDP sums up
  microbatches, the unsharded sum, 4·N, as well, unless each is reduced at once;
- the weights that products are taken with, c each: all of them where they are not sharded (under
  amp_bf16) or stay gathered (SHARD_GRAD_OP), else those of two blocks and of one table,
  embeddings or head, which are never gathered at the same time;
- activations of m tokens: what each layer saves for backward; of a checkpointed layer its input
  (`fine_grained`: and its products), and of one of these the rest too, while it is computed again;
- the loss: the head's gradient, the final states and theirs, the logits of one chunk.

Not counted: the context of the device and its libraries, fragmentation, buffers of collectives,
workspaces of kernels, batches read ahead, and what a checkpoint in the background holds. Layers are
counted as they run without compilation; compiled ones save less.
"""

from dataclasses import astuple, dataclass

from olmo_core.config.compute import logits_at_once, recomputes
from olmo_core.config.model import ModelConfig, count_parameters
from olmo_core.config.train import TrainConfig

_FLOAT32 = 4


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device, part by part."""

    weights: int
    gradients: int
    moments: int
    working_weights: int
    activations: int
    loss: int

    @property
    def total(self) -> int:
        """Return the sum of all parts, as if all were largest at the same time."""
        return sum(astuple(self))


def memory_per_device(config: TrainConfig, *, devices: int, devices_per_node: int) -> Memory:
    """Return what one of `devices` holds; by default one node is one HSDP replica."""
    model = config.model
    parameters = count_parameters(model).total
    shards = _shards(config, devices, devices_per_node)
    width = 2 if config.precision == "amp_bf16" else _FLOAT32
    instances = config.global_train_batch_size // devices
    microbatch = max(1, min(config.device_train_microbatch_size, instances))
    tokens = microbatch * config.sequence_length
    table = model.padded_vocab_size * model.d_model
    own = -(-parameters // shards)
    summed_up = shards > 1 and instances > microbatch and not config.core.reduce_every_microbatch
    # narrow ones as they come, in float32, and their gradient
    logits, logit = logits_at_once(width), _FLOAT32 + (2 * width if width < _FLOAT32 else 0)
    return Memory(
        weights=_FLOAT32 * own,
        gradients=_FLOAT32 * (own + (parameters if summed_up else 0)),
        moments=2 * _FLOAT32 * own,
        working_weights=_working(config, parameters, table, shards, width),
        activations=tokens * _of_token(config, width),
        loss=_FLOAT32 * table
        + 2 * tokens * model.d_model * width
        + min(tokens * model.padded_vocab_size, logits) * logit,
    )


def _shards(config: TrainConfig, devices: int, devices_per_node: int) -> int:
    if config.distributed_strategy != "fsdp" or config.fsdp.sharding_strategy == "NO_SHARD":
        return 1
    if "HYBRID" not in config.fsdp.sharding_strategy:
        return devices
    replicas = config.fsdp.hybrid_sharding_num_model_replicas
    return max(1, devices // (replicas or max(1, devices // devices_per_node)))


def _working(config: TrainConfig, parameters: int, table: int, shards: int, width: int) -> int:
    """Return the bytes of the weights used in matrix products, beside those that are kept."""
    if shards == 1:
        return width * parameters if width < _FLOAT32 else 0  # float32: the kept ones themselves
    gathered = _FLOAT32 if config.fsdp.precision is None else width
    if config.fsdp.keeps_gathered:
        return gathered * parameters
    tables = table if config.model.weight_tying else 2 * table
    return gathered * (table + 2 * (parameters - tables) // config.model.n_layers)


def _of_token(config: TrainConfig, width: int) -> int:
    model, layer = config.model, _of_layer(config.model, width)
    strategy = config.activation_checkpointing
    again = 0
    if strategy is not None:
        again = sum(recomputes(strategy, layer) for layer in range(model.n_layers))
    kept = width * model.d_model + (_products(model, width) if strategy == "fine_grained" else 0)
    whole = model.n_layers - again + (1 if again else 0)  # one is being computed again
    around_norm = 2 * _FLOAT32 * model.d_model  # the final one
    return whole * layer + again * kept + around_norm


def _products(model: ModelConfig, width: int) -> int:
    """Return the bytes per token of the results of a layer's matrix products and attention."""
    kv = model.kv_heads * model.head_dim
    return width * (4 * model.d_model + 2 * kv + 2 * model.feed_forward_size)


def _of_layer(model: ModelConfig, width: int) -> int:
    """Return the bytes per token that a layer saves for its backward pass."""
    d, kv = model.d_model, model.kv_heads * model.head_dim
    norms = 2 * _FLOAT32 * d  # the float32 inputs of the two norms
    if model.layer_norm_with_affine:
        norms += 2 * _FLOAT32 * d  # their results before the weight, float32
    if model.attention_layer_norm:
        norms += 2 * _FLOAT32 * (d + kv)
    products = width * (4 * d + 2 * kv + 4 * model.feed_forward_size)
    return norms + products + _FLOAT32 * model.n_heads  # and each query's log-sum
