"""Where Hydra finds a variant that has no file: behind conf/, a source that knows what names say."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from stages.schema import advice, naming

CONF = Path(__file__).resolve().parent.parent / "conf"
GROUP = "variant"


def of_this_repository(search_path: ConfigSearchPath) -> bool:
    """Whether it is this conf/ that is composed."""
    sources = [str(source.path) for source in search_path.get_path() if source.provider == "main"]
    return [Path(path.removeprefix("file://")).resolve() for path in sources] == [CONF]


class VariantPath(SearchPathPlugin):
    """Puts the source of variants behind conf/, whose files therefore come first."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append it, for this repository alone."""
        if of_this_repository(search_path):
            search_path.append("tinsmith", f"{VariantSource.scheme()}://{CONF.name}")


class VariantSource(ConfigSource):
    """Makes variants of their names. Such a variant is required unless conf/release says that none is."""

    def __init__(self, provider: str, path: str) -> None:
        """Read the names of conf/ once."""
        super().__init__(provider, path)
        self.variants = naming.variants(CONF)

    @staticmethod
    def scheme() -> str:
        """Return what paths of this source begin with."""
        return "variants"

    def load_config(self, config_path: str) -> ConfigResult:
        """Return what a name says, as its file would."""
        name = config_path.removeprefix(f"{GROUP}/")
        said = {**self.variants[name], "required": "${release.required}", "release_not_measured": False}
        return ConfigResult(
            provider=self.provider,
            path=self.full_path(),
            config=OmegaConf.create(said),
            header={"package": f"{GROUP}s.{name}"},
        )

    def available(self) -> bool:
        """Tell that there is nothing to look for."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether it is the one group that this source has."""
        return config_path == GROUP

    def is_config(self, config_path: str) -> bool:
        """Whether a name says a variant.

        Raises:
            ConfigCompositionException: it is asked for as one, and neither a file nor the rule has it.
        """
        group, _, name = config_path.rpartition("/")
        if group == GROUP and name not in self.variants:
            raise ConfigCompositionException(str(advice.no_option(CONF, GROUP, name)))
        return group == GROUP

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return every name that the rule gives."""
        return sorted(self.variants) if config_path == GROUP and results_filter != ObjectType.GROUP else []
