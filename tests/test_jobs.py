"""Training jobs: real processes, that stand in for ``greenroom train``."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from greenroom.errors import ProcessError, RegistryUnavailable, TrainingUnderway
from greenroom.job import JobOrder
from greenroom.job_store import JobStore, lives
from greenroom.supervision.jobs import Jobs, plan_options, train_command
from greenroom.training_route import TrainingPlan
from waiting import wait_for

COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("fake_training.py")))


def order(behaviour: str = "train", who: str = "ann") -> JobOrder:
    return JobOrder(plan=TrainingPlan(model="m", dataset=behaviour), who=who)


class Server:
    """The part of a supervisor that has jobs."""

    def __init__(self, home: Path, command=COMMAND) -> None:
        self.store = JobStore(home)
        self.events: list[str] = []
        self.promotions = 0
        self.jobs = Jobs(
            self.store, command, on_event=self.events.append, on_promoted=self._promoted
        )

    async def _promoted(self) -> None:
        self.promotions += 1

    def go(self) -> None:
        self.store.folder("go").write_text("")

    async def doing(self, job_id: str, what: str) -> None:
        async with asyncio.timeout(20):
            while self.store.read(job_id).report.doing != what:
                await asyncio.sleep(0.02)


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path)


def run(main) -> None:
    asyncio.run(main)


def test_a_job_trains_in_a_process_of_its_own_and_says_what_came_of_it(server):
    async def main():
        begun = await server.jobs.begin(order())
        assert begun.state == "running"
        return begun, await server.jobs.ended(begun.id)

    begun, ended = asyncio.run(main())
    assert ended.state == "done"
    assert ended.trained.outcome == "refused"
    assert ended.trained.metrics == {"r2": 0.75}
    assert ended.ended_at >= begun.began_at
    assert server.store.output_file(begun.id).read_text() == "training begins\n"
    assert server.events == [
        f"training {begun.id} has begun: --model=m --dataset=train",
        f"training {begun.id} is done: m version 7 refused",
    ]
    assert server.promotions == 0


def test_what_a_training_promoted_is_served_before_those_who_wait_are_told(server):
    async def main():
        begun = await server.jobs.begin(order("promote"))
        await server.jobs.ended(begun.id)
        assert server.promotions == 1

    run(main())


def test_a_training_stands_back_behind_serving_for_processor_and_memory(server):
    async def main():
        begun = await server.jobs.begin(order("wait"))
        pid = begun.process.pid
        assert os.getpriority(os.PRIO_PROCESS, pid) == min(
            os.getpriority(os.PRIO_PROCESS, 0) + 10, 19
        )
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
        server.go()
        await server.jobs.ended(begun.id)

    run(main())


def test_the_history_of_what_a_job_promotes_names_who_asked_for_it(server):
    script = "import os, sys; sys.exit(os.environ['GREENROOM_WHO'])"
    server = Server(server.store._folder.parent, (sys.executable, "-c", script))

    async def main():
        begun = await server.jobs.begin(order(who="ann (POST /train)"))
        return await server.jobs.ended(begun.id)

    job = asyncio.run(main())
    assert job.problem == "its process ended with exit status 1: ann (POST /train)"


@pytest.mark.parametrize("other", ["the same server", "another server of the same home"])
def test_a_second_training_is_refused_and_told_which_one_runs(server, other, tmp_path):
    second = server if other == "the same server" else Server(tmp_path)

    async def main():
        begun = await server.jobs.begin(order("wait"))
        with pytest.raises(TrainingUnderway, match=f"training {begun.id} is running, since"):
            await second.jobs.begin(order())
        server.go()
        await server.jobs.ended(begun.id)
        third = await second.jobs.begin(order())
        assert (await second.jobs.ended(third.id)).state == "done"

    run(main())


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [
        ("fail", "data/x.csv is not there; put it there"),
        ("crash", "its process ended with SIGSEGV: out of memory"),
    ],
)
def test_a_training_that_fails_says_why_in_one_line(server, behaviour, problem):
    async def main():
        begun = await server.jobs.begin(order(behaviour))
        return await server.jobs.ended(begun.id)

    job = asyncio.run(main())
    assert (job.state, job.problem) == ("failed", problem)
    assert server.events[-1] == f"training {job.id} failed: {problem}"
    assert server.store.running() is None


def test_what_a_killed_training_has_left_open_is_ended_with_the_reason(server):
    told = []
    server.jobs._end_runs = lambda *words: told.append(words)

    async def main():
        begun = await server.jobs.begin(order("wait"))
        await server.doing(begun.id, "fitting")
        os.kill(begun.process.pid, signal.SIGKILL)
        killed = await server.jobs.ended(begun.id)
        assert told == [(killed.id, killed.problem)]
        again = await server.jobs.begin(order())
        await server.jobs.ended(again.id)
        assert len(told) == 1, "one that has ended by itself has ended its run"

    asyncio.run(main())


def test_where_mlflow_is_away_that_the_run_stays_open_is_told(server):
    def away(*_):
        raise RegistryUnavailable("Failed to connect to MLflow")

    server.jobs._end_runs = away

    async def main():
        begun = await server.jobs.begin(order("wait"))
        await server.doing(begun.id, "fitting")
        os.kill(begun.process.pid, signal.SIGKILL)
        assert (await server.jobs.ended(begun.id)).state == "failed"
        assert server.events[-1].endswith("stays open in MLflow: Failed to connect to MLflow")

    asyncio.run(main())


def test_a_training_that_is_killed_makes_room_for_the_next_one(server):
    async def main():
        begun = await server.jobs.begin(order("wait"))
        await server.doing(begun.id, "fitting")
        os.kill(begun.process.pid, signal.SIGKILL)
        killed = await server.jobs.ended(begun.id)
        assert killed.state == "failed"
        assert killed.problem.startswith("its process was killed (SIGKILL)")
        again = await server.jobs.begin(order())
        assert (await server.jobs.ended(again.id)).state == "done"

    run(main())


@pytest.mark.parametrize("behaviour", ["wait", "stubborn"])
def test_a_server_that_stops_ends_its_training_and_says_so(server, behaviour, monkeypatch):
    monkeypatch.setattr("greenroom.supervision.jobs.STOP_GRACE_S", 1.0)

    async def main():
        begun = await server.jobs.begin(order(behaviour))
        await server.doing(begun.id, "fitting")
        await server.jobs.stop()
        assert not lives(begun.process)
        job = server.store.read(begun.id)
        assert (job.state, job.problem) == ("failed", "it was cut off: the server was stopped")
        with pytest.raises(ProcessError, match="stopping"):
            await server.jobs.begin(order())

    run(main())


_SERVER = """
import asyncio, os, sys
from pathlib import Path
from test_jobs import Server, order

async def main():
    server = Server(Path(sys.argv[1]))
    begun = await server.jobs.begin(order("wait"))
    await server.doing(begun.id, "fitting")
    print(begun.id, flush=True)
    os._exit(9)

asyncio.run(main())
"""


def _orphaned(home: Path) -> str:
    """Begin a job in a server that is gone at once; return the job's id."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    ended = subprocess.run(
        [sys.executable, "-c", _SERVER, str(home)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert ended.returncode == 9, ended.stderr
    return ended.stdout.strip()


@pytest.mark.slow
def test_a_server_that_starts_knows_which_trainings_were_cut_off(server, tmp_path):
    job_id = _orphaned(tmp_path)
    process = server.store.read(job_id).process
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not lives(process), "the training is gone", within_s=30)

    async def main():
        server.jobs.adopt()
        job = await server.jobs.ended(job_id)
        assert (await server.jobs.ended((await server.jobs.begin(order())).id)).state == "done"
        return job

    found = asyncio.run(main())
    assert found.state == "failed"
    assert found.problem == "it was cut off: the server ended, and the training with it"


def test_a_training_that_outlives_its_server_is_seen_to_its_end_by_the_next_one(server, tmp_path):
    job_id = _orphaned(tmp_path)

    async def main():
        server.jobs.adopt()
        with pytest.raises(TrainingUnderway, match=job_id):
            await server.jobs.begin(order())
        server.go()
        return await server.jobs.ended(job_id)

    found = asyncio.run(main())
    assert (found.state, found.trained.version) == ("done", "7")
    assert server.events[0] == f"training {job_id} runs on, begun by a server before this one"


@pytest.mark.slow
def test_a_server_that_stops_ends_a_training_that_it_took_over(server, tmp_path):
    job_id = _orphaned(tmp_path)

    async def main():
        server.jobs.adopt()
        await server.jobs.stop()

    run(main())
    job = server.store.read(job_id)
    assert not lives(job.process)
    assert (job.state, job.problem) == ("failed", "it was cut off: the server was stopped")


def test_a_job_of_a_server_that_lives_is_left_to_it(server, tmp_path):
    async def main():
        begun = await server.jobs.begin(order("wait"))
        other = Server(tmp_path)
        other.jobs.adopt()
        await other.jobs.stop()
        assert lives(begun.process)
        server.go()
        await server.jobs.ended(begun.id)

    run(main())


def test_whoever_leaves_stops_waiting_and_the_training_goes_on(server):
    async def main():
        begun = await server.jobs.begin(order("wait"))
        job = await server.jobs.ended(begun.id, leaving=lambda: True)
        assert job.state == "running"
        server.go()
        assert (await server.jobs.ended(begun.id)).state == "done"

    run(main())


def test_a_command_that_cannot_be_started_is_a_failed_job(tmp_path):
    server = Server(tmp_path, (str(tmp_path / "absent"),))
    with pytest.raises(ProcessError, match="cannot be started: No such file"):
        asyncio.run(server.jobs.begin(order()))
    (job,) = server.store.recent()
    assert (job.state, job.problem) == (
        "failed",
        "the training cannot be started: No such file or directory",
    )
    assert server.store.lock() is not None


def test_a_plan_is_written_as_the_options_that_a_person_would_give():
    plan = TrainingPlan(model="m", candidates=("a", "b"), dataset="-x", rows=10, trial=True)
    assert plan_options(plan) == [
        "--model=m",
        "--candidates=a,b",
        "--dataset=-x",
        "--rows=10",
        "--trial",
    ]
    command = train_command(Path("/app"), config=Path("/c.yaml"), generated=True)
    assert command[1:] == [
        "-P",
        "-m",
        "greenroom",
        "train",
        "/app",
        "--config=/c.yaml",
        "--generated",
    ]


def test_old_jobs_are_forgotten(server, monkeypatch):
    monkeypatch.setattr("greenroom.job_store.KEPT_JOBS", 2)

    async def main():
        for _ in range(3):
            begun = await server.jobs.begin(order())
            await server.jobs.ended(begun.id)

    run(main())
    wait_for(lambda: len(list(server.store.recent())) <= 3, "old jobs are gone", within_s=30)
    server.store.forget_old()
    assert len(list(server.store.recent())) == 2
