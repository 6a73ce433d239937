"""The options of ``gentool export --page``: what is written, and with which runtime."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gentool.cli.console import say
from gentool.core.errors import UsageError

if TYPE_CHECKING:
    from gentool.checkpoint import LoadedModel
    from gentool.export.web_runtime import WebRuntime
    from gentool.outputs.ownership import Guard

Page = Annotated[
    Path | None,
    typer.Option(
        "--page", metavar="FILE",
        help="Write a page (.html) that draws samples in a browser, without the internet.",
    ),
]  # fmt: skip
Runtime = Annotated[
    Path | None,
    typer.Option(
        "--runtime", metavar="FILE", readable=False,
        help="ONNX Runtime for the page: the .tgz of 'npm pack onnxruntime-web', or its folder.",
    ),
]  # fmt: skip
TrustRuntime = Annotated[
    bool,
    typer.Option("--trust-runtime", help="Take a runtime whose hash gentool does not know."),
]


@dataclass(frozen=True)
class PageOptions:
    """The options as they were given."""

    page: Path | None
    runtime: Path | None
    trusted: bool

    @property
    def inputs(self) -> list[Path]:
        """The files that are read."""
        return [] if self.runtime is None else [self.runtime]

    def check(self) -> None:
        """Check that the options fit together.

        Raises:
            UsageError: they do not.
        """
        if self.page is None:
            if self.runtime is not None or self.trusted:
                raise UsageError("--runtime and --trust-runtime are for a page. Give --page FILE")
            return
        if self.page.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--page {self.page}: the name must end with .html")
        if self.runtime is None:
            from gentool.export.web_runtime import HOW_TO_GET

            raise UsageError(
                "--page needs ONNX Runtime for browsers, which gentool neither contains nor "
                f"downloads. {HOW_TO_GET}"
            )

    def read_runtime(self) -> "WebRuntime | None":
        """Return the runtime; None if no page is wanted.

        Raises:
            UsageError: it is not there, or not pinned and not trusted.
        """
        from gentool.export.web_runtime import read_runtime

        return None if self.runtime is None else read_runtime(self.runtime, trusted=self.trusted)

    def allow(self, loaded: "LoadedModel", web: "WebRuntime | None", guard: "Guard") -> None:
        """Check before the work that the page may be written.

        Raises:
            UsageError: the file may not be replaced, or cannot be written.
        """
        from gentool.outputs.marks import EXPORTED

        if self.page is None or web is None:
            return
        guard.allow(self.page, EXPORTED, "--page")
        guard.allow_recipe(self.page, EXPORTED, _recipe(loaded, web))

    def write(self, loaded: "LoadedModel", web: "WebRuntime", guard: "Guard") -> dict[str, object]:
        """Write the page, and return what ``--json`` says of it.

        Raises:
            UsageError: the file may not be replaced, or cannot be written.
        """
        from gentool.core.atomic_files import write_bytes
        from gentool.export.page import make_page
        from gentool.outputs.marks import EXPORTED

        assert self.page is not None
        recipe = _recipe(loaded, web)
        made = make_page(loaded, web, recipe)
        guard.allow_recipe(self.page, EXPORTED, recipe)  # again: the file may exist now
        write_bytes(self.page, made.content)
        return {
            "file": str(self.page), "bytes": len(made.content), "runtime": web.version,
            "largest_difference": max(made.differences.values()), "sliders": made.sliders,
            "drawn_in_page": made.drawn,
        }  # fmt: skip

    def tell(self, row: dict[str, object]) -> None:
        """Print what ``write`` returned on stderr."""
        version = row["runtime"] or "of an unknown version"
        size = int(str(row["bytes"])) / 2**20
        say(
            f"  a page of {size:.1f} MiB with ONNX Runtime Web {version} and {row['sliders']} "
            f"directions, largest difference from the model {row['largest_difference']:.2g}"
        )
        if not row["drawn_in_page"]:
            say("  note: the samples of this model are drawn code by code, which the page cannot "
                "do: it holds the latents of the first images of seed 0")  # fmt: skip


def _recipe(loaded: "LoadedModel", web: "WebRuntime") -> dict[str, object]:
    """Return the recipe of a page."""
    from gentool.outputs.plan import recipe

    return recipe(loaded, made_by="export", part="page", runtime=list(web.sha256))
