"""The block about language models and their texts."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue

from .blocks import Block, Positive


class PriceParams(Block):
    """What the endpoint charges, in US dollars per million tokens; 0: nothing."""

    prompt: Annotated[float, Field(ge=0)] = 0
    reply: Annotated[float, Field(ge=0)] = 0


class LLMParams(Block):
    """Class descriptions: which model is asked what, and which corpora are used instead.

    The endpoint is named by the environment: OPENAI_BASE_URL and OPENAI_API_KEY.
    """

    model: str = Field(description="its name at the endpoint")
    queries: Path = Field(Path("llm/queries.yaml"), description="relative to params.yaml")
    n_replies: Positive = Field(1, description="replies per query and class")
    temperature: Annotated[float, Field(ge=0)] | None = Field(
        0.7, description="null (also for max_tokens and seed): not sent")
    max_tokens: Positive | None = Field(80, description="of one reply")
    seed: int | None = Field(0, description="reply i of a query gets seed + i")
    extra: dict[str, JsonValue] = Field({}, description="further request fields, sent unchanged")
    concurrency: Positive = Field(4, description="requests sent in parallel")
    timeout: Annotated[float, Field(gt=0)] = Field(
        60, description="seconds for one reply, to its last byte")
    patience: Annotated[float, Field(gt=0)] = Field(
        600, description="seconds for one request with all its retries")
    price: PriceParams = PriceParams()
    corpora: dict[str, Path] = Field(
        {}, description="dataset: a JSON file {class: [sentence, ...]} to use instead of replies; "
                        "relative to params.yaml")
    compared: dict[str, Path] = Field(
        {}, description="dataset: such a file to compare with in 01_describe, if it exists")
