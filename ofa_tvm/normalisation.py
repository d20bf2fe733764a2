"""What a file may say of how pixels are normalised: they are float32, in which more would be infinite or zero."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Mean = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Std = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)]
"""It divides."""
