"""Has Ray itself validate a configuration, without a cluster: `make check-deploy`, in vLLM's environment."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from ray.serve.llm import LLMServingArgs
from ray.serve.schema import ServeDeploySchema

path = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).with_name("ray_serve.yaml")
deployment = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
for application in deployment.applications:
    served = LLMServingArgs.model_validate(application.args)
    for config in served.llm_configs:
        engine = config.get_engine_config()  # checks what goes to vLLM, too
        print(f"{application.name}: {engine.model_id} from {engine.hf_model_id}, {config.accelerator_type}")
