import threading

from filelock import FileLock

from benchmarks.suites.jobs import Job
from benchmarks.suites.queue import GpuPool, JobQueue
from ddoq.storage.run_folder import RunFolder


def test_gpus_are_shared_evenly_where_there_are_fewer_than_jobs():
    pool = GpuPool(["a", "b"])
    with pool.lend() as first, pool.lend() as second:
        with pool.lend() as third, pool.lend() as fourth:
            assert {first, second} == {third, fourth} == {"a", "b"}
        with pool.lend() as fifth:
            assert fifth in ("a", "b")
    with GpuPool([]).lend() as none:
        assert none is None


def test_jobs_of_others_come_last(tmp_path):
    names = RunFolder(tmp_path)
    names.jobs.mkdir()
    jobs = [Job(name, "fit", (name,), "") for name in "abc"]
    waited: list[str] = []
    told = threading.Event()

    def waiting(job: Job) -> None:
        waited.append(job.name)
        told.set()

    others = FileLock(names.job_lock(jobs[0].key), thread_local=False)
    others.acquire()
    queue = JobQueue(names, jobs, waiting)
    with queue.take() as job:
        assert job is jobs[1]
        with queue.take() as next_job:
            assert next_job is jobs[2]
    freeing = threading.Thread(target=lambda: told.wait() and others.release())
    freeing.start()
    with queue.take() as job:
        assert job is jobs[0]
    freeing.join()
    assert waited == ["a"]
    with queue.take() as job:
        assert job is None


def test_a_closed_queue_hands_out_nothing(tmp_path):
    queue = JobQueue(RunFolder(tmp_path), [Job("a", "fit", (), "")], print)
    queue.close()
    with queue.take() as job:
        assert job is None
