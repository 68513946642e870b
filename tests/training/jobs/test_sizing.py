"""`shopsight plan` against what a pencil gives, and its refusals."""

from __future__ import annotations

import json
import math
import resource

import pytest
from typer.testing import CliRunner

from shopsight.training.cli.main import app
from shopsight.training.jobs.cluster_plan import DoesNotFit, Plan, enough_workers, plan
from shopsight.training.jobs.errors import JobError
from shopsight.training.jobs.sizing import GIB, Sizing

LARGE = Sizing(customers=10**9, items=10**8, dim=128, workers=64)


@pytest.fixture(scope="module")
def large() -> Plan:
    return plan(LARGE)


def test_memory_of_a_worker_is_what_a_pencil_gives(large: Plan) -> None:
    assert [(t.name, t.sharding, t.num_shards, t.rows) for t in large.tables] == [
        ("customer", "row_wise", 64, 15_625_000),
        ("item", "row_wise", 64, 1_562_500),
    ]
    weights = (15_625_000 + 1_562_500) * 128 * 4
    adagrad = (15_625_000 + 1_562_500) * 4  # one number a row
    ids = (
        (1 + 1 + 50) * 8192 * 8
    )  # customer, candidate, history, as int64, from all workers, for a 64th of the rows
    rows = 3 * 8192 * 64 * 128 * 4  # a partial sum for every example of every worker, three features
    assert {load.device_bytes for load in large.loads} == {weights + adagrad + ids + rows}
    assert large.fullest_bytes == weights + adagrad + ids + rows + LARGE.dense_bytes
    assert LARGE.usable_bytes == int(0.85 * 80 * GIB)
    assert large.memory_share == pytest.approx(large.fullest_bytes / LARGE.usable_bytes)


def test_bytes_of_a_step_are_what_a_pencil_gives(large: Plan) -> None:
    there_and_back = 2 * 3 * 8192 * 64 * 128 * 4  # partial sums scattered, gradients gathered
    ids = (1 + 1 + 50) * 8192 * 8 * 64  # TorchRec's estimator counts every id for every worker
    assert {load.inter_node_bytes for load in large.loads} == {there_and_back + ids}
    assert {load.intra_node_bytes for load in large.loads} == {0}
    at_50_gb_a_second = (there_and_back + ids) / 50e9 * 1e3
    assert large.step["communication_ms"] == pytest.approx(
        at_50_gb_a_second, rel=0.02
    )  # and a copy on the GPU
    assert large.binding == "network between nodes"
    parameters = 2 * (256 * 512 + 512 + 512 * 256 + 256 + 256 * 128 + 128)
    assert large.dense_allreduce_bytes == round(2 * 63 / 64 * 4 * parameters)


def test_within_one_node_nothing_crosses_the_network() -> None:
    found = plan(Sizing(customers=10**8, items=10**7, workers=8))
    assert {load.inter_node_bytes for load in found.loads} == {0}
    assert min(load.intra_node_bytes for load in found.loads) > 0


@pytest.mark.parametrize(
    ("optimizer", "numbers_a_row"), [("sgd", 0), ("rowwise_adagrad", 1), ("adagrad", 128)]
)
def test_the_optimizers_state_is_counted(optimizer: str, numbers_a_row: int) -> None:
    sizing = Sizing(customers=10**8, items=10**7, workers=8, optimizer=optimizer)
    assert sizing.optimizer_bytes == 11 * 10**7 * numbers_a_row * 4
    lean = plan(Sizing(customers=10**8, items=10**7, workers=8, optimizer="sgd"))
    held = sum(load.device_bytes for load in plan(sizing).loads)
    inputs_and_outputs = sum(load.device_bytes for load in lean.loads) - lean.sizing.table_bytes
    assert held == pytest.approx(sizing.table_bytes + sizing.optimizer_bytes + inputs_and_outputs, rel=0.01)


def test_what_cannot_fit_is_refused_with_the_workers_that_would_do() -> None:
    with pytest.raises(DoesNotFit) as refusal:
        plan(Sizing(customers=10**9, items=10**8, workers=4))
    # 1.1e9 rows of 129 numbers on four GPUs
    assert "GPU memory binds" in str(refusal.value)
    assert f"{1.1e9 * 129 * 4 / 4 / GIB:,.1f} GiB each" in str(refusal.value)
    assert "8 workers would do" in str(refusal.value)
    assert plan(Sizing(customers=10**9, items=10**8, workers=8)).binding == "GPU memory"


def test_enough_workers_is_the_fewest() -> None:
    sizing = Sizing(customers=4 * 10**9, items=10**8, workers=8)
    # 2.1 TB of rows and state on GPUs of 68 GiB, beside outputs that grow with the workers
    assert enough_workers(sizing) == 32
    with pytest.raises(DoesNotFit):
        plan(Sizing(customers=4 * 10**9, items=10**8, workers=24))


def test_a_batch_that_alone_fills_a_gpu_is_named_not_answered_with_more_workers() -> None:
    with pytest.raises(DoesNotFit, match=r"no number of workers .* lower batch_size"):
        plan(Sizing(customers=10**6, items=10**5, workers=8, batch_size=200_000))


def test_host_memory_takes_what_the_gpus_do_not() -> None:
    found = plan(Sizing(customers=10**9, items=10**8, workers=4, host_memory_gib=400))
    assert any("uvm" in table.kernel for table in found.tables)
    assert found.memory_share <= 1
    assert sum(load.host_bytes for load in found.loads) > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dim": 30}, "dim is 30"),
        ({"workers": 12}, "12 workers do not fill nodes of 8"),
        ({"optimizer": "lion"}, "'lion' must be one of"),
        ({"customers": 0}, "customers is 0"),
        ({"customers": 10**30}, r"customers is 1e\+30; it must lie between 1 and 1,000,000,000,000"),
        ({"batch_size": 10**9}, "batch_size is 1e"),
        ({"gpu_memory_gib": math.nan}, "gpu_memory_gib is nan"),
        ({"inter_node_gbs": math.inf}, "inter_node_gbs is inf"),
        ({"reserve": math.nan}, "reserve is nan"),
    ],
)
def test_bad_input_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(JobError, match=words):
        Sizing(**{"customers": 10, "items": 10, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (option, value)
        for option in ("--customers", "--items")
        for value in ("inf", "1e30", "2.5", "nan", "-inf")
    ]
    + [
        ("--gpu-memory", "nan"),
        ("--host-memory", "inf"),
        ("--intra-node", "nan"),
        ("--workers", "1000000000"),
    ],
)
def test_odd_numbers_of_a_spreadsheet_are_told_in_one_line(option: str, value: str) -> None:
    asked = {"--customers": "1e6", "--items": "1e5", option: value}
    answer = CliRunner().invoke(app, ["plan", *(word for pair in asked.items() for word in pair)])
    assert answer.exit_code != 0
    assert isinstance(answer.exception, JobError | SystemExit), answer.exception


def test_the_command_prints_one_json_object_and_takes_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    asked = ["plan", "--customers", "1e9", "--items", "1e8", "--dim", "128", "--workers", "64"]
    answer = CliRunner().invoke(app, [*asked, "--json"])
    assert answer.exit_code == 0, answer.output
    said = json.loads(answer.stdout)
    assert len(said["workers"]) == 64
    assert said["table_bytes"] == 1.1e9 * 128 * 4
    assert "network between nodes" in CliRunner().invoke(app, asked).output
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 2**20  # KiB: not one of 525 GiB
