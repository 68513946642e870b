"""Old import names: the packages `training`, `serving` and `kernels`, and modules that were moved.

In a checkout, whose root has the three folders, `import training.workspace` gives the module
`shopsight.training.artifacts.workspace` with a DeprecationWarning. The installed package has the new names
alone. The next release removes this file and the lines in the three `__init__.py` that call it.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGES = ("kernels", "serving", "training")
_MOVED = {
    "kernels.cpu.conjugate": "kernels.cpu.cg",
    "kernels.cpu.giant": "kernels.cpu.long_rows",
    "training.bootstrap": "training.evaluation.bootstrap",
    "training.config": "training.pipeline.overrides",
    "training.data.adapters": "training.data.public.adapters",
    "training.data.aliases": "training.data.describing.aliases",
    "training.data.also_ids": "training.data.identity.also_ids",
    "training.data.amounts": "training.data.cleaning.amounts",
    "training.data.chunks": "training.data.reading.chunks",
    "training.data.clocks": "training.data.cleaning.clocks",
    "training.data.column_names": "training.data.describing.column_names",
    "training.data.completejourney": "training.data.public.completejourney",
    "training.data.consents": "training.data.consent_table",
    "training.data.contacts": "training.data.identity.contacts",
    "training.data.conventions": "training.data.cleaning.conventions",
    "training.data.csv_layout": "training.data.reading.csv_layout",
    "training.data.csv_reader": "training.data.reading.csv_reader",
    "training.data.customer_ids": "training.data.identity.customer_ids",
    "training.data.detection": "training.data.describing.detection",
    "training.data.drafting": "training.data.describing.drafting",
    "training.data.extent": "training.data.reading.extent",
    "training.data.foreign_names": "training.data.describing.foreign_names",
    "training.data.furniture": "training.data.reading.non_data_lines",
    "training.data.given_ids": "training.data.identity.given_ids",
    "training.data.goods": "training.data.cleaning.goods",
    "training.data.id_spaces": "training.data.describing.id_spaces",
    "training.data.identity_accounts": "training.data.identity.accounts",
    "training.data.identity_cli": "training.cli.identity",
    "training.data.identity_config": "training.data.identity.config",
    "training.data.identity_review": "training.data.identity.review",
    "training.data.identity_rules": "training.data.identity.rules",
    "training.data.joins": "training.data.describing.joins",
    "training.data.json_documents": "training.data.reading.json_documents",
    "training.data.json_paths": "training.data.reading.json_paths",
    "training.data.jsonl_reader": "training.data.reading.jsonl_reader",
    "training.data.kinds": "training.data.sources.kinds",
    "training.data.line_values": "training.data.describing.line_values",
    "training.data.linkage": "training.data.identity.linkage",
    "training.data.linkage.blocking": "training.data.identity.linkage.blocking",
    "training.data.linkage.clusters": "training.data.identity.linkage.clusters",
    "training.data.linkage.comparisons": "training.data.identity.linkage.comparisons",
    "training.data.linkage.fellegi_sunter": "training.data.identity.linkage.fellegi_sunter",
    "training.data.linkage.given_names": "training.data.identity.linkage.given_names",
    "training.data.linkage.households": "training.data.identity.linkage.households",
    "training.data.linkage.link": "training.data.identity.linkage.link",
    "training.data.linkage.names": "training.data.identity.linkage.names",
    "training.data.linkage.nicknames": "training.data.identity.linkage.nicknames",
    "training.data.linkage.normalise": "training.data.identity.linkage.normalise",
    "training.data.linkage.placeholders": "training.data.identity.linkage.placeholders",
    "training.data.linkage.quality": "training.data.identity.linkage.quality",
    "training.data.linkage.relatives": "training.data.identity.linkage.relatives",
    "training.data.linkage.threshold": "training.data.identity.linkage.threshold",
    "training.data.loader": "training.data.column_files",
    "training.data.lookups": "training.data.reading.lookups",
    "training.data.masking": "training.data.cleaning.masking",
    "training.data.near_duplicates": "training.data.cleaning.near_duplicates",
    "training.data.order_lines": "training.data.cleaning.order_lines",
    "training.data.outliers": "training.data.cleaning.outliers",
    "training.data.overlaps": "training.data.describing.overlaps",
    "training.data.parquet_reader": "training.data.reading.parquet_reader",
    "training.data.phrases": "training.data.cleaning.phrases",
    "training.data.prefetch": "training.data.reading.prefetch",
    "training.data.proposals": "training.data.describing.proposals",
    "training.data.quality": "training.data.cleaning.flags",
    "training.data.quoting": "training.data.reading.quoting",
    "training.data.readers": "training.data.reading.readers",
    "training.data.records": "training.data.reading.records",
    "training.data.returns": "training.data.cleaning.returns",
    "training.data.scanning": "training.data.reading.scanning",
    "training.data.series": "training.data.describing.series",
    "training.data.source": "training.data.sources.source",
    "training.data.source_checks": "training.data.sources.checks",
    "training.data.sources_faults": "training.data.sources.faults",
    "training.data.sources_file": "training.data.sources.keys",
    "training.data.sources_reference": "training.data.sources.reference",
    "training.data.survivorship": "training.data.identity.survivorship",
    "training.data.taught": "training.data.intent_examples",
    "training.data.times": "training.data.cleaning.times",
    "training.data.typed_columns": "training.data.cleaning.typed_columns",
    "training.data.validate": "training.data.describing.validate",
    "training.data.workbook": "training.data.reading.workbook",
    "training.demo_scores": "training.demo.scores",
    "training.doctor": "training.cli.doctor",
    "training.export": "training.artifacts.model_folders",
    "training.families": "training.pipeline.families",
    "training.figure_tables": "training.cli.figure_tables",
    "training.goldens": "training.artifacts.goldens",
    "training.insight": "training.pipeline.insight",
    "training.jobs.cli": "training.cli.jobs",
    "training.language.familiarity": "training.language.nearest_example",
    "training.language.watch": "training.language.drift",
    "training.lookup": "training.data.people_files",
    "training.market": "training.experiments",
    "training.market.experiment": "training.experiments.ab_test",
    "training.onnx_graph": "training.artifacts.onnx_graph",
    "training.plain_settings": "training.artifacts.plain_settings",
    "training.privacy.cli": "training.cli.privacy",
    "training.privacy.consent": "training.data.consent",
    "training.privacy.key_cli": "training.cli.key",
    "training.profiles.opinions": "training.profiles.message_features",
    "training.recipes": "training.pipeline.recipes",
    "training.recommend.care": "training.recommend.suppression",
    "training.recommend.factor_store": "training.artifacts.factor_store",
    "training.recommend.floors": "training.evaluation.baselines",
    "training.recommend.half_steps": "training.recommend.mf.half_steps",
    "training.recommend.judging": "training.recommend.evaluator",
    "training.recommend.memory": "training.recommend.mf.memory",
    "training.recommend.metrics": "training.evaluation.ranking",
    "training.recommend.mf_epochs": "training.recommend.mf.epochs",
    "training.recommend.mf_files": "training.recommend.mf.files",
    "training.recommend.mf_fitting": "training.recommend.mf.fitting",
    "training.recommend.mf_input": "training.recommend.mf.inputs",
    "training.recommend.mf_rows": "training.recommend.mf.rows",
    "training.recommend.mf_validation": "training.recommend.mf.validation",
    "training.recommend.objective": "training.recommend.mf.objective",
    "training.recommend.popular": "training.recommend.segment_popularity",
    "training.recommend.retrieval": "training.recommend.mf.retrieval",
    "training.recommend.staleness": "training.recommend.mf.staleness",
    "training.recommend.standing_side": "training.recommend.mf.fixed_side",
    "training.recommend.tensor_file": "training.artifacts.tensor_file",
    "training.report.linkage": "training.data.identity.linkage_page",
    "training.scoring": "training.evaluation.planted",
    "training.stages": "training.demo.stages",
    "training.value.mood": "training.value.recent_tone",
    "training.workspace": "training.artifacts.workspace",
}


def provide(package: str) -> None:
    """Let `package` and all below it be the modules of `shopsight.<package>` from now on."""
    message = f"'{package}' is called 'shopsight.{package}' now; the next release removes the old name"
    warnings.warn(message, DeprecationWarning, stacklevel=3)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    sys.modules[package] = importlib.import_module(f"shopsight.{package}")


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, *_unused: object) -> ModuleSpec | None:
        package, _, below = fullname.partition(".")
        if package not in _PACKAGES or not below or below == "__main__":
            return None
        return ModuleSpec(fullname, _Alias(f"shopsight.{_MOVED.get(fullname, fullname)}"))


class _Alias(Loader):
    def __init__(self, present: str) -> None:
        self._present = present

    def create_module(self, _: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._present)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has put the alias' own in its place
