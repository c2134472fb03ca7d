from pathlib import Path

import pytest
from collect_bank import open_bank
from quality_checked import SUITE, Checked, at_times


@pytest.fixture
def checked(request: pytest.FixtureRequest, tmp_path: Path) -> Checked:
    (tmp_path / "expectations").mkdir()
    (tmp_path / "expectations" / "customers.py").write_text(SUITE)
    bank = open_bank("sqlite", tmp_path, request, suite="expectations/customers.py")
    return Checked(bank, at_times())
