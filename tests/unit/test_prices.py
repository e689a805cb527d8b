"""The price table of the provider file: what is taken, and what is said when it is wrong."""

from decimal import Decimal
from pathlib import Path

import pytest

from activities.providers import ProviderSettingsInvalid, load_providers
from hibernaut.models import Usage

LOCAL = "base_url: http://127.0.0.1:9/v1"


def written(folder: Path, models: str, top: str = "") -> dict[str, str]:
    file = folder / "providers.yaml"
    file.write_text(f"{top}\nproviders:\n  main:\n    {LOCAL}\n    models: {models}\n")
    return {"HIBERNAUT_PROVIDERS": str(file)}


def test_prices_are_read_as_they_are_written(tmp_path: Path) -> None:
    environ = written(tmp_path, "{m: {price: {input: 1.1, cached_input: 0.000001, output: '10'}}}", "currency: EUR")
    providers = load_providers(environ)
    price = providers.model("main", "m").price
    assert price is not None
    assert (price.input, price.cached_input, price.output) == (Decimal("1.1"), Decimal("0.000001"), Decimal(10))
    paid = providers.costed("main", "m", Usage(input_tokens=10, output_tokens=1, total_tokens=11))
    assert (paid.cost_micros, paid.currency) == (21, "EUR")


@pytest.mark.parametrize(("provider", "model"), [("main", "M"), ("main", "m-mini"), ("other", "m")])
def test_a_price_is_of_one_model_of_one_provider(tmp_path: Path, provider: str, model: str) -> None:
    providers = load_providers(written(tmp_path, "{m: {price: {input: 1, output: 1}}}"))
    assert providers.costed(provider, model, Usage(total_tokens=5)).unpriced_tokens == 5


def test_without_a_file_nothing_has_a_price() -> None:
    assert load_providers({"OPENAI_API_KEY": "k"}).model("default", "gpt").price is None


@pytest.mark.parametrize(
    ("models", "top", "told"),
    [
        ("{m: {price: {input: -1, output: 1}}}", "", "main.*models.m.price.input.*greater than or equal to 0"),
        ("{m: {price: {input: 1}}}", "", "models.m.price.output.*required"),
        ("{m: {price: {input: 0.0000001, output: 1}}}", "", "models.m.price.input.*6 decimal"),
        ("{m: {price: {input: many, output: 1}}}", "", "models.m.price.input"),
        ("{m: {price: {inputs: 1, output: 1, input: 1}}}", "", "price.inputs.*allowed are input, cached_input, output"),
        ("{m: {prize: {}}}", "", "models.m.prize.*allowed are .*price"),
        ("{}", "currency: 'a currency'", "currency"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, models: str, top: str, told: str) -> None:
    with pytest.raises(ProviderSettingsInvalid, match=told):
        load_providers(written(tmp_path, models, top))
