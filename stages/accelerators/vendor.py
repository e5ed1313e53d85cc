"""Compile artifacts ahead of time with a vendor's SDK, which the user installed and whose licence the user accepted.

Nothing proprietary is fetched here, and what these tools do in silence is an error: an SDK's package may install
without its libraries (its build step fails to download them and says so to nobody), a compiler may leave a file of 0
bytes or an empty list of models without an exception, and ONNX Runtime lists a provider that did not load.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

from stages.core.errors import ArtifactError, ConfigError, ConversionError, first_line

LITERT = ("google_tensor", "mediatek", "qualcomm", "samsung")
"""Vendors that `ai_edge_litert.aot` has a compiler plugin for, and whose SDK is a package of its own."""
QNN = "QNNExecutionProvider"
COMPLAINS, LONGEST = re.compile(r"(?:^└ |ERROR: (?!\[))(.+)", re.MULTILINE), 300
"""A complaint in the compiler's log, and how much of one is shown: its end, which says what and not where."""
DISPATCH = b"DISPATCH_OP"
"""Custom operator that stands for what was compiled."""


def accept(vendor: str, accepted: bool) -> None:
    """Refuse to use an SDK whose licence nobody accepted.

    Raises:
        ConfigError: it was not said.
    """
    if not accepted:
        raise ConfigError(
            f"using the SDK of '{vendor}' counts as accepting its licence, and nobody said so",
            expected="--licence-accepted, once you have read it",
        )


def sdk_libraries(vendor: str) -> Path:
    """Find the libraries of an installed SDK.

    Raises:
        ConfigError: it is not installed, or installed without a library.
    """
    package = f"ai_edge_litert_sdk_{vendor}"
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"the SDK of '{vendor}' is not installed: there is no package '{package}'",
            next_step="install it yourself into this environment; Tinsmith fetches nothing proprietary",
        )
    found = importlib.import_module(package).path_to_sdk_libs()
    libraries = Path(found) if found else None
    if libraries is None or not any(path.stat().st_size for path in libraries.glob("*.so*")):
        raise ConfigError(
            f"the SDK of '{vendor}' is installed without its libraries ('{found}' has none)",
            expected="what its build step downloads, and leaves out in silence where it cannot",
            next_step=f"reinstall '{package}' with `pip install -v` and read its log",
        )
    return libraries


def compile_litert(model: Path, vendor: str, soc: str, out: Path) -> dict[str, Any]:
    """Compile a TFLite file for a chip.

    Args:
        model: the file.
        vendor: one of `LITERT`, whose SDK is installed.
        soc: the chip as the vendor calls it: `SM8750`.
        out: an existing directory, for the compiled file and what comes beside it.

    Returns:
        `file`, `bytes`, and `operators` compiled of how many (`of`) in how many `parts`, each summed over signatures.

    Raises:
        ConfigError: the SDK is not there, or the vendor has no such chip.
        ConversionError: nothing was compiled, or what came is no compiled file.
    """
    sdk_libraries(vendor)
    from ai_edge_litert.aot import aot_compile

    target = importlib.import_module(f"ai_edge_litert.aot.vendors.{vendor}.target")
    known = [str(one.value) for one in target.SocModel]
    if soc not in known:
        raise ConfigError(f"'{vendor}' has no chip '{soc}'", expected=f"one of: {', '.join(sorted(known))}")
    try:
        # Told to stop at the first failure: otherwise a failed backend is a line in a report that nobody asks for.
        found = aot_compile.aot_compile(
            str(model), output_dir=str(out), target=target.Target(target.SocModel(soc)), keep_going=False
        )
    except Exception as error:  # the compiler's exceptions share no other base
        raise ConversionError(f"the compiler for {vendor} {soc} failed: {_reason(error)}") from error
    if len(found.models) != 1:
        failed = "; ".join(f"{backend.target_id}: {reason}" for backend, reason in found.failed_backends)
        raise ConversionError(
            f"the compiler for {vendor} {soc} gave {len(found.models)} models and no exception"
            + (f" ({failed})" if failed else "")
        )
    (compiled,) = found.models
    data = compiled.model_bytes if compiled.in_memory else compiled.path.read_bytes()
    stats = compiled.partition_stats.subgraph_stats if compiled.partition_stats else []
    return check_compiled(data, f"{vendor} {soc}") | {
        "file": "" if compiled.in_memory else compiled.path.name,
        "of": sum(one.num_total_ops for one in stats),
        "operators": sum(one.num_ops_offloaded for one in stats),
        "parts": sum(one.num_partitions_offloaded for one in stats),
    }


def _reason(error: Exception) -> str:
    """Return what the compiler's log complains of first, which its exception only names; and remove the log."""
    found = re.search(r"See (\S+\.error) for details", str(error))
    if found is None or not (log := Path(found[1])).is_file():
        return first_line(error)
    complaint = COMPLAINS.search(log.read_text(encoding="utf-8", errors="replace"))
    log.unlink()
    return complaint[1].strip()[-LONGEST:] if complaint else first_line(error)


def check_compiled(data: bytes, chip: str) -> dict[str, Any]:
    """Refuse what a compiler left that is no compiled TFLite file.

    Raises:
        ConversionError: it is empty, is no TFLite file, or has nothing in it for the chip.
    """
    if not data:
        raise ConversionError(f"the compiler for {chip} left a file of 0 bytes and no exception")
    if data[4:8] != b"TFL3":
        raise ConversionError(f"what the compiler for {chip} left is no TFLite file")
    if DISPATCH not in data:
        raise ConversionError(f"what the compiler for {chip} left has no {DISPATCH.decode()}: nothing was compiled")
    return {"bytes": len(data)}


def compile_qnn(model: Path, soc: str, out: Path) -> dict[str, Any]:
    """Compile an ONNX model into a Qualcomm context with onnxruntime-qnn, and let nothing of it fall back to the CPU.

    Args:
        model: the file.
        soc: number of the chip as QNN calls it, an empty text for its default.
        out: the file to write.

    Raises:
        ConfigError: onnxruntime-qnn is not installed, or its backend is not in it.
        ConversionError: the provider did not load, refuses an operator, or left nothing.
    """
    if importlib.util.find_spec("onnxruntime_qnn") is None:
        raise ConfigError(
            "onnxruntime-qnn is not installed",
            next_step="install it yourself into this environment; Tinsmith fetches nothing proprietary",
        )
    import onnxruntime

    plugin = importlib.import_module("onnxruntime_qnn")
    backend = Path(plugin.get_qnn_htp_path())
    if not backend.is_file() or not backend.stat().st_size:
        raise ConfigError(f"onnxruntime-qnn is installed without its backend '{backend}'")
    options = onnxruntime.SessionOptions()
    for key, value in (
        ("session.disable_cpu_ep_fallback", "1"),  # or a provider that did not load leaves all of it to the CPU
        ("ep.context_enable", "1"),
        ("ep.context_embed_mode", "1"),
        ("ep.context_file_path", str(out)),
    ):
        options.add_session_config_entry(key, value)
    try:
        onnxruntime.register_execution_provider_library(QNN, plugin.get_library_path())
        devices = [one for one in onnxruntime.get_ep_devices() if one.ep_name == QNN]
        if not devices:
            raise ConversionError(f"{QNN} is registered and offers no device")
        options.add_provider_for_devices(
            devices[:1], {"backend_path": str(backend), **({"soc_model": soc} if soc else {})}
        )
        onnxruntime.InferenceSession(str(model), options)
    except ConversionError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions share no other base
        raise ConversionError(f"{QNN} does not take the whole model: {first_line(error)}") from error
    return check_context(out)


def check_context(path: Path) -> dict[str, Any]:
    """Refuse what is no compiled context.

    Raises:
        ConversionError: the file is missing or empty, or a node of it is for the CPU.
    """
    if not path.is_file() or not path.stat().st_size:
        raise ConversionError(f"{QNN} is listed, left no context and no exception: it did not load")
    import onnx

    nodes = [node.op_type for node in onnx.load(str(path)).graph.node]
    others = sorted({kind for kind in nodes if kind != "EPContext"})
    if others or not nodes:
        raise ConversionError(f"the context of {QNN} leaves {', '.join(others) or 'everything'} to the CPU")
    return {"bytes": path.stat().st_size, "file": path.name, "parts": len(nodes)}


def model_of(directory: Path) -> Path:
    """Find the model of a bundle or artifact.

    Raises:
        ArtifactError: it has neither a TFLite nor an ONNX model.
    """
    for name in ("model.tflite", "model.onnx"):
        if (directory / name).is_file():
            return directory / name
    raise ArtifactError(
        f"'{directory}' has neither model.tflite nor model.onnx", expected="a bundle of build/release, or an artifact"
    )
