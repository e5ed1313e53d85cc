"""Build many configurations, each stage of them once, and say which variant suits which device.

Reads: conf/, the repository as it lies there, DVC's cache.
Writes: sweeps/NAME/ (a record per job, Pareto fronts, recommendations, a page), DVC experiments, MLflow runs.
Why: a researcher compares; the workspace, params.yaml and dvc.lock stay as they are.

    python -m stages.sweep student=clinc150,none compression=none,pruned target=onnx-cpu precision=fp32,static_wi8_ai8
    python -m stages.sweep … sweep.name=mine                      the same name again resumes
    python -m stages.sweep … hydra/launcher=submitit_local        or basic, joblib (default), submitit_slurm, ray
    python -m stages.sweep … hydra/sweeper=tinsmith               Optuna instead of a grid
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="sweep")
def main(config: DictConfig) -> dict[str, Any]:
    """Run one job; Hydra's sweeper and launcher decide which ones, where and when."""
    from stages.sweeping import job

    settings = HydraConfig.get()
    return job.run(config, settings.overrides.task, Path(settings.sweep.dir).resolve())


if __name__ == "__main__":
    main()
