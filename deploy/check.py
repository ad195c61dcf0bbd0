"""Has Ray and vLLM themselves validate a configuration, without a cluster: `make check-deploy`, in vLLM's environment.

Each is asked for what the other passes on unread; what Ray would drop in silence is refused here. Takes files, by default
the one beside it, and ends with exit status 1 after telling what is wrong with each.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from ray.serve.config import AutoscalingConfig
from ray.serve.llm import LLMServingArgs
from ray.serve.schema import DeploymentSchema, ServeDeploySchema
from vllm.config.lora import LoRAConfig
from vllm.engine.arg_utils import EngineArgs


def check(path: Path) -> None:
    """Raises ValueError for what would not run as it is written."""
    deployment = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    for application in deployment.applications:
        served = LLMServingArgs.model_validate(application.args)
        for config in served.llm_configs:
            engine = config.get_engine_config()  # names of engine arguments
            scaling = config.deployment_config.get("autoscaling_config") or {}
            known(config.deployment_config, set(DeploymentSchema.model_fields), "deployment_config")
            known(scaling, set(AutoscalingConfig.model_fields), "autoscaling_config")
            AutoscalingConfig(**scaling)
            lora(config.engine_kwargs)
            print(
                f"{application.name}: {engine.model_id} from {engine.hf_model_id}, {config.accelerator_type}"
            )


def known(given: dict[str, Any], names: set[str], where: str) -> None:
    """Raises ValueError for a key that Ray does not know: it would take its own default instead."""
    unknown = sorted(given.keys() - names)
    if unknown:
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; there are {', '.join(sorted(names))}")


def lora(arguments: dict[str, Any]) -> None:
    """vLLM's own checks of what it is given: each value's type, and the adapters' numbers together."""
    types = {field.name: field.type for field in fields(EngineArgs)}
    for name, value in arguments.items():
        if types[name] in ("bool", bool):
            TypeAdapter(bool).validate_python(value, strict=True)
    ours = {field.name for field in fields(LoRAConfig)} & arguments.keys()
    LoRAConfig(**{name: arguments[name] for name in ours})


def main(paths: list[Path]) -> int:
    wrong = 0
    for path in paths or [Path(__file__).with_name("ray_serve.yaml")]:
        try:
            check(path)
        except (ValidationError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main([Path(given) for given in sys.argv[1:]]))
