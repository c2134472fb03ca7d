"""The raw files of scenario `sme`, which only the user has: six CSV files, plain or packed by xz."""

import lzma
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from ftl.errors import ConsortiumError

_INPUT = ("enterprise_id", "invoice_no", "invoice_date", "seller_id", "amount", "tax", "total", "status")
_OUTPUT = ("enterprise_id", "invoice_no", "invoice_date", "buyer_id", "amount", "tax", "total", "status")
FILES: Mapping[str, tuple[str, ...]] = {
    "credit_enterprises": ("enterprise_id", "name", "rating", "default"),
    "nocredit_enterprises": ("enterprise_id", "name"),
    "credit_input_invoices": _INPUT,
    "credit_output_invoices": _OUTPUT,
    "nocredit_input_invoices": _INPUT,
    "nocredit_output_invoices": _OUTPUT,
}
"""Name, without its ending, to columns."""

ENDINGS = (".csv.xz", ".csv")
_DAY = r"^\d{4}-\d{2}-\d{2}$"


def raw_table(data: Path, name: str) -> pa.Table:
    """One of :data:`FILES`, every cell as the text that stands there.

    Args:
        data: the folder that the user named.
        name: of the file, without its ending.

    Raises:
        ConsortiumError: the file is missing, cannot be read, or has other columns.
    """
    path = _path(data, name)
    try:
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
            table = pa_csv.read_csv(file, convert_options=_text(FILES[name]))
    except (OSError, EOFError, lzma.LZMAError, pa.ArrowException) as error:
        # The library's message may quote a row.
        message = f"{path} cannot be read as CSV ({type(error).__name__})."
        raise ConsortiumError(message, cure=_cure(f"UTF-8 text with the columns {', '.join(FILES[name])}")) from None
    if set(table.column_names) != set(FILES[name]):
        message = f"{path} has the columns {', '.join(table.column_names)}."
        raise ConsortiumError(message, cure=_cure(", ".join(FILES[name])))
    return table.select(FILES[name])


def invoices(data: Path, direction: str) -> pa.Table:
    """Every enterprise's ``input`` or ``output`` invoices in the order of their dates, of one date as in the files.

    Raises:
        ConsortiumError: as :func:`raw_table`, and where a date is no date.
    """
    parts = [raw_table(data, f"{group}_{direction}_invoices") for group in ("credit", "nocredit")]
    for part, group in zip(parts, ("credit", "nocredit"), strict=True):
        wrong = pc.invert(pc.match_substring_regex(part.column("invoice_date"), _DAY))
        if pc.any(wrong).as_py():
            message = f"{_path(data, f'{group}_{direction}_invoices')}: {pc.sum(wrong)} rows have no invoice_date."
            raise ConsortiumError(message, cure=_cure("dates such as 2019-12-31"))
    table = pa.concat_tables(parts)
    table = table.append_column("#", pa.array(range(len(table)), pa.int64()))
    return table.sort_by([("invoice_date", "ascending"), ("#", "ascending")]).drop_columns("#")


def _path(data: Path, name: str) -> Path:
    for ending in ENDINGS:
        if (data / f"{name}{ending}").is_file():
            return data / f"{name}{ending}"
    message = f"{data} holds no {name}.csv.xz." if data.is_dir() else f"There is no folder {data}."
    raise ConsortiumError(message, cure=f"`--data` names the folder with {', '.join(FILES)}, each .csv.xz or .csv.")


def _text(columns: tuple[str, ...]) -> pa_csv.ConvertOptions:
    return pa_csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False)


def _cure(expected: str) -> str:
    return f"Expected {expected}; docs/sme.md describes the files."
