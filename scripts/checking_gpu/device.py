"""The device that JAX computes on, looked up in a child, so that the parent does not hold it."""

import json
from typing import Any


def describe() -> dict[str, Any]:
    import jax

    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "count": len(jax.devices()),
        "version": " ".join(device.client.platform_version.split()),
        "memory": stats.get("bytes_limit"),
    }


if __name__ == "__main__":
    print(json.dumps(describe()))
