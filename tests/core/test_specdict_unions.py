"""A field that is a section or a plain value: a distribution or a known number, a hyperprior or nothing."""

from __future__ import annotations

import pytest

from vigmm.core.errors import ConfigError
from vigmm.core.specdict import from_dict, to_dict
from vigmm.models import DirichletProcess, Gamma, Independent, Mixture, Noise, distribution

MODELS = [
    Mixture(noise=Noise(a=2.0)),
    Mixture(weights=DirichletProcess(hyper=Gamma(2.0, 3.0))),
    Mixture(prior=Independent(sd=distribution("Gamma", concentration=2.0, rate=1.0))),
    Mixture(prior=Independent(variance=distribution("InverseGamma", concentration=2.0, rate=1.0))),
]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_there_and_back(model):
    assert from_dict(Mixture, to_dict(model)) == model


def test_a_number_where_a_section_may_be():
    data = {"covariance": "diag", "prior": {"kind": "independent", "sd": 1.5}}
    made = from_dict(Mixture, data)
    assert made.prior.sd == 1.5
    assert from_dict(Mixture, to_dict(made)) == made


@pytest.mark.parametrize(
    ("sd", "words"),
    [
        ("wide", "prior.sd must be a number or null, got 'wide'"),
        ({"name": "os.system"}, "prior.sd.name must be the name of a distribution"),
        ({"name": "Normal", "parms": []}, "prior.sd.parms: unknown key; did you mean params"),
        ({"name": "Normal"}, "sd must be a distribution of a positive number"),
    ],
)
def test_problems_have_their_path(sd, words):
    data = {"covariance": "diag", "prior": {"kind": "independent", "sd": sd}}
    with pytest.raises(ConfigError, match=words):
        from_dict(Mixture, data)
