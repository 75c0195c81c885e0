"""torch.compile is tried before it is relied on."""

import pytest
import torch
from torch import nn

from training.compiling import compile_or_not


class Doubling(nn.Module):
    def features(self, x):
        return 2 * x

    def forward(self, x):
        return self.features(x)


def test_features_are_compiled_where_there_are_any(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function.__name__) or function)
    said = []
    assert compile_or_not(Doubling(), lambda: None, said.append)
    assert compile_or_not(nn.Linear(1, 1), lambda: None, said.append)
    assert compiled == ["features", "forward"]
    assert said == []


def test_a_compiler_that_fails_is_taken_back_and_named(monkeypatch):
    def broken(function):
        def call(*arguments):
            raise RuntimeError("no C++ compiler\nwith a long trace")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    network, said = Doubling(), []
    assert not compile_or_not(network, lambda: network(torch.ones(1)), said.append)
    assert torch.equal(network(torch.ones(1)), torch.tensor([2.0]))
    assert said == ["torch.compile does not work here (RuntimeError: no C++ compiler); training runs without it"]


def test_memory_that_is_short_is_not_the_compilers_fault(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: function)

    def trial():
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        compile_or_not(Doubling(), trial, print)
