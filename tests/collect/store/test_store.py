"""The store by itself, on SQLite and PostgreSQL."""

import dataclasses
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, event, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from ifllm_hub.collect.store.intake import StoredBatch
from ifllm_hub.collect.store.refusals import Conflict, Full, OtherArm, Refused, Unknown, Withdrawn
from ifllm_hub.collect.store.store import Answer, RatingValues, Store, seconds_left_of_day
from ifllm_hub.collect.store.tables import EXPORTS, PEOPLE, RESPONSES
from ifllm_hub.collect.store.writer import Writer
from ifllm_hub.errors import IfllmError
from tests.waiting import until

DAY = 24 * 3600 * 1000


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    opened = Store(database)
    yield opened
    opened.close()


def answer(person: str, number: int = 1) -> Answer:
    return Answer(f"{person}{number}", person, f"q{number}", "left", "an answer 😀", "a query", "c1", "llm", False)


def batch(person: str, session: str, sequence: int, sha256: str = "0" * 64, issued_at: int = 100) -> StoredBatch:
    return StoredBatch(session, sequence, person, "2026-11-29", b"{}", sha256, issued_at)


def test_a_batch_once(store: Store) -> None:
    assert [store.accept(batch("ada", "s", 0), 100).result() for _ in range(3)] == [False, True, True]
    with pytest.raises(Conflict):
        store.accept(batch("ada", "s", 0, "1" * 64), 100).result()
    with pytest.raises(Conflict):
        store.accept(batch("eve", "s", 1), 100).result()
    assert store.counts()["batches"] == 1


def test_a_question_has_one_arm(store: Store) -> None:
    """The first registration that names one decides; what is registered again without one keeps it."""

    def register(side: str, arm: str | None, propensity: float | None, text: str = "a") -> None:
        one = dataclasses.replace(answer("ada"), response_id=f"ada-{side}", side=side, text=text)
        store.register(dataclasses.replace(one, arm=arm, propensity=propensity), None, 100).result()

    register("left", None, None)
    register("left", "B", 0.1)
    register("left", None, None, "ab")
    for arm, propensity in (("A", 0.9), ("B", 0.2)):
        for side in ("left", "right"):
            with pytest.raises(OtherArm):
                register(side, arm, propensity, "abc")
    register("right", "B", 0.1)
    with store.reading() as connection:
        rows = select(RESPONSES.c.side, RESPONSES.c.text, RESPONSES.c.arm, RESPONSES.c.propensity)
        assert {tuple(row) for row in connection.execute(rows)} == {
            ("left", "ab", "B", 0.1),
            ("right", "a", "B", 0.1),
        }
    # Another question of the same person, and the same question of another person, may be in another arm.
    store.register(dataclasses.replace(answer("ada", 2), arm="A", propensity=0.9), None, 100).result()
    store.register(dataclasses.replace(answer("eve"), arm="A", propensity=0.9), None, 100).result()


def test_many_at_once_are_each_taken_once(store: Store) -> None:
    """Twenty threads send the same fifty batches: each is new to exactly one of them."""
    answers: list[bool] = []

    def send(number: int) -> None:
        futures = [store.accept(batch("ada", "s", (number + k) % 50), 100) for k in range(50)]
        answers.extend(future.result() for future in futures)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (answers.count(False), answers.count(True)) == (50, 950)
    assert store.counts()["batches"] == 50


def test_batches_that_wait_together_share_their_statements(store: Store) -> None:
    """Not five each: a statement is a way to the database and back."""
    statements: list[str] = []
    event.listen(store._engine, "before_cursor_execute", lambda *words: statements.append(words[2]))
    go_on, _ = hold(store)
    waiting = [store.accept(batch(f"person {n % 20}", f"session {n % 40}", n), 100) for n in range(200)]
    statements.clear()
    go_on.set()
    assert not any(future.result() for future in waiting)
    assert len(statements) <= 11, statements
    assert store.counts()["batches"] == 200


def test_batches_that_wait_together_are_each_judged_by_those_before(store: Store) -> None:
    """As if each had come alone: the same again, another body, another person's session, and one too many."""
    limit = 3 * 1_026
    go_on, _ = hold(store)
    sent = [
        batch("ada", "s", 0),
        batch("ada", "s", 0),
        batch("ada", "s", 0, "1" * 64),
        batch("eve", "s", 1),
        batch("ada", "s", 1),
        batch("ada", "t", 0),
        batch("ada", "t", 1),
        batch("ada", "s", 1),
        batch("eve", "e", 0),
    ]
    waiting = [store.accept(each, 100, limit) for each in sent]
    go_on.set()
    became = [type(future.exception()) if future.exception() else future.result() for future in waiting]
    assert became == [False, True, Conflict, Conflict, False, False, Full, True, False]
    with store.reading() as connection:
        assert set(connection.execute(select(PEOPLE.c.person, PEOPLE.c.stored_bytes)).all()) == {
            ("ada", limit),
            ("eve", 1_026),
        }


@pytest.fixture
def stores(store: Store) -> Iterator[tuple[Store, Store]]:
    """Of two processes on one database, as two servers are, or `ifllm collect delete` beside one."""
    other = Store(store._engine.url.render_as_string(hide_password=False))
    yield store, other
    other.close()


def test_two_stores_on_one_database(stores: tuple[Store, Store]) -> None:
    futures = [each.accept(batch("ada", "s", k), 100) for k in range(40) for each in stores]
    assert sorted(future.result() for future in futures) == [False] * 40 + [True] * 40


@pytest.mark.slow
def test_two_servers_that_want_the_same_people_do_not_lock_each_other_out(postgres_database: str) -> None:
    """Each has them in another order, and both wait for a third, who holds one of the people in the middle."""
    stores = [Store(postgres_database) for _ in range(2)]
    people = [f"person {n:02}" for n in range(30)]
    failures: list[str] = []
    third = stores[0]._engine.connect()
    third.execute(insert(PEOPLE).values(person=people[15], first_seen=1))
    waiting = []
    for store, order in zip(stores, (people, people[::-1]), strict=True):
        event.listen(store._engine, "handle_error", lambda context: failures.append(str(context.original_exception)))
        go_on, _ = hold(store)
        waiting += [store.accept(batch(person, person, 0), 100) for person in order]
        go_on.set()
    locked = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    watching = create_engine(postgres_database, isolation_level="AUTOCOMMIT")
    with watching.connect() as watcher:
        until(lambda: watcher.scalar(locked) == 2)
    watching.dispose()
    third.rollback()
    third.close()
    assert sorted(future.result() for future in waiting) == [False] * 30 + [True] * 30
    assert failures == []
    for store in stores:
        store.close()


def test_what_a_person_may_store_in_a_day_holds_for_two_servers_together(stores: tuple[Store, Store]) -> None:
    futures = [each.accept(batch("ada", f"s{n % 2}", n), 100, 5 * 1_026) for n, each in enumerate(stores * 10)]
    taken = [future for future in futures if future.exception() is None]
    assert len(taken) == stores[0].counts()["batches"] == 5
    assert all(isinstance(future.exception(), Full) for future in futures if future not in taken)


def test_a_withdrawal_at_one_server_holds_at_the_other(stores: tuple[Store, Store]) -> None:
    one, other = stores
    futures = [each.accept(batch("ada", "s", n), 100) for n, each in enumerate(stores * 20)]
    one.withdraw("ada", "reader_ada", 200).result()
    for future in futures:
        assert future.exception() is None or isinstance(future.exception(), Withdrawn)
    with pytest.raises(Withdrawn):
        other.accept(batch("ada", "s", 99), 210).result()
    assert other.counts()["batches"] == other.counts()["sessions"] == 0


def test_withdrawal(store: Store, tmp_path: Path) -> None:
    for person in ("ada", "bob"):
        store.register(answer(person), "2026-11-29", 100).result()
        store.accept(batch(person, f"session of {person}", 0), 150).result()
        store.rate(f"{person}1", person, RatingValues(4, None, None), 100, 160).result()
    store.note_export(tmp_path / "out", 170)
    assert store.withdraw("ada", "reader_ada", 200).result() == 1
    counts = store.counts()
    assert {name: counts[name] for name in ("responses", "sessions", "batches", "ratings")} == dict.fromkeys(
        ("responses", "sessions", "batches", "ratings"), 1
    )
    assert store.withdrawn() == ["ada"]
    assert store.erasures() == [(tmp_path / "out", "reader_ada")]
    store.erased(tmp_path / "out", ["reader_ada"])
    assert store.erasures() == []
    with pytest.raises(Withdrawn):
        store.accept(batch("ada", "t", 0), 210).result()
    with pytest.raises(Withdrawn):
        store.register(answer("ada"), None, 210).result()
    store.register(answer("ada"), "2026-12-01", 220).result()
    assert store.withdrawn() == []
    assert store.accept(batch("ada", "t", 0, issued_at=220), 230).result() is False


def test_a_day_ends(store: Store) -> None:
    """What may be stored is counted by day and person; 2 bytes of a body and 1,024 of the rest are a batch."""

    def accepted(person: str, number: int, day: float) -> bool:
        try:
            return not store.accept(batch(person, person, number), round(day * DAY), 2_100).result()
        except Full:
            return False

    assert [accepted("ada", number, 100.5) for number in range(3)] == [True, True, False]
    assert accepted("bob", 0, 100.6)
    assert not accepted("ada", 3, 100.9999)
    assert [accepted("ada", number, 101) for number in range(4, 7)] == [True, True, False]
    assert [seconds_left_of_day(now) for now in (0, 1, DAY - 1, DAY)] == [86_400, 86_400, 1, 86_400]


def test_who_was_never_seen_can_withdraw(store: Store) -> None:
    assert store.withdraw("ada", "reader_ada", 200).result() == 0
    with pytest.raises(Withdrawn):
        store.accept(batch("ada", "s", 0), 210).result()


def test_ratings_need_their_answer(store: Store) -> None:
    with pytest.raises(Unknown):
        store.rate("none", "ada", RatingValues(4, None, None), 100, 100).result()


def test_retention(store: Store) -> None:
    for day, person in ((0, "old"), (10, "new")):
        store.register(answer(person), None, day * DAY).result()
        store.accept(batch(person, person, 0), day * DAY).result()
        store.rate(f"{person}1", person, RatingValues(4, None, None), 100, day * DAY).result()
    gone = {"batches": 1, "sessions": 1, "notes": 0, "ratings": 1, "responses": 1}
    assert store.expire(5, 12 * DAY).result() == gone
    assert store.expire(5, 12 * DAY).result() == dict.fromkeys(gone, 0)
    assert store.counts()["batches"] == 1


def test_sqlite_commits_to_the_disk(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    with store.reading() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}  # 2 is FULL
    store.close()


def test_one_job_that_fails_takes_no_other_along(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'any.sqlite'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY)"))
    hold = threading.Event()
    writer = Writer(engine)
    writer.submit(lambda _: hold.wait(10))  # so that the others wait together

    def put(n: int) -> object:
        return lambda connection: connection.execute(text(f"INSERT INTO t VALUES ({n})")).rowcount

    def refuse(_: object) -> None:
        raise Refused

    good = [writer.submit(put(n)) for n in range(3)]  # type: ignore[arg-type]
    twice, refused = writer.submit(put(1)), writer.submit(refuse)  # type: ignore[arg-type]
    hold.set()
    assert [future.result() for future in good] == [1, 1, 1]
    assert "UNIQUE" in str(twice.exception())
    assert isinstance(refused.exception(), Refused)
    writer.close()
    with pytest.raises(RuntimeError):
        writer.submit(refuse)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 3
    engine.dispose()


def hold(store: Store, then: Callable[[Connection], object] = lambda _: None) -> tuple[threading.Event, Future[None]]:
    """Keep the writer busy, so that what is submitted waits together, until the event is set."""
    started, go_on = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        then(connection)
        started.set()
        go_on.wait(10)

    held = store._writer.submit(work)
    started.wait(10)
    return go_on, held


def test_a_locked_store_fails_all_who_wait_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one wait, not after one each; and takes what comes when it is free."""
    monkeypatch.setattr("ifllm_hub.collect.store.tables._BUSY_SECONDS", 0.1)
    file = tmp_path / "collected.sqlite"
    store, begun = Store(f"sqlite:///{file}"), []
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as holder:
        go_on, held = hold(store)
        held.add_done_callback(lambda _: holder.execute("BEGIN IMMEDIATE"))  # in the writer's thread, at once
        waiting = [store.accept(batch("ada", "s", number), 100) for number in range(20)]
        event.listen(store._engine, "before_cursor_execute", lambda *words: begun.append(words[2]))
        go_on.set()
        assert all("locked" in str(future.exception()) for future in waiting)
        assert begun == ["BEGIN IMMEDIATE"]
        holder.rollback()
        assert store.accept(batch("ada", "s", 0), 100).result() is False
    store.close()


@pytest.mark.slow
def test_a_locked_person_fails_all_who_wait_together(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL would wait for as long as another program holds the row."""
    monkeypatch.setattr("ifllm_hub.collect.store.tables._BUSY_SECONDS", 0.1)
    store = Store(postgres_database)
    assert store.accept(batch("ada", "s", 0), 100).result() is False
    with store._engine.connect() as holder:
        holder.execute(select(PEOPLE).with_for_update())
        go_on, _ = hold(store)
        waiting = [store.accept(batch("ada", "s", number), 100) for number in range(1, 20)]
        go_on.set()
        assert all("lock timeout" in str(future.exception(30)) for future in waiting)
    assert store.accept(batch("ada", "s", 1), 100).result() is False
    store.close()


def test_a_full_disk_fails_all_who_wait_together(tmp_path: Path) -> None:
    """The group, one job by itself, and no more."""
    store, tried = Store(f"sqlite:///{tmp_path / 'collected.sqlite'}"), []

    def put(connection: Connection) -> None:
        tried.append(1)
        connection.execute(insert(EXPORTS).values(folder="x" * 100_000, written_at=1))

    go_on, _ = hold(store, lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 1"))
    waiting = [store._writer.submit(put) for _ in range(20)]
    go_on.set()
    assert all("full" in str(future.exception()) for future in waiting)
    assert len(tried) == 2
    store.close()


def test_a_log_that_cannot_be_emptied_is_a_failure_of_the_store(tmp_path: Path) -> None:
    """Not one that would end the daily upkeep for good."""
    store = Store(f"sqlite:///{tmp_path / 'collected.sqlite'}")
    store.register(answer("ada"), "2026-11-29", 100).result()
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, most))  # no file of this process can grow
    try:
        with pytest.raises(SQLAlchemyError):
            store.forget_deleted_pages()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    store.forget_deleted_pages()
    store.close()


def test_who_gives_up_stops_nobody(store: Store) -> None:
    go_on, held = hold(store)
    waiting = [store.accept(batch("ada", "s", number), 100) for number in range(3)]
    assert [waiting[1].cancel(), held.cancel()] == [True, False]
    go_on.set()
    assert [waiting[0].result(), waiting[2].result()] == [False, False]
    assert store.accept(batch("ada", "s", 1), 100).result() is False


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/store.sqlite", "nobody://localhost/x"])
def test_a_store_that_cannot_be_opened(url: str) -> None:
    with pytest.raises(IfllmError, match="store cannot be opened"):
        Store(url)


def test_a_withdrawal_leaves_nothing_in_the_log_while_upkeep_runs(tmp_path: Path) -> None:
    """SQLite refuses a second checkpoint at once while one runs, as the one of the upkeep may."""
    file = tmp_path / "collected.sqlite"
    store, done = Store(f"sqlite:///{file}"), threading.Event()

    def keep_up() -> None:
        while not done.is_set():
            store.forget_deleted_pages()

    upkeep = threading.Thread(target=keep_up)
    upkeep.start()
    try:
        for number in range(40):
            secret = f"a sentence of nobody else, {number} times"
            said = answer(f"ada{number}")
            store.register(dataclasses.replace(said, text=secret), "2026-11-29", 100).result()
            store.withdraw(said.person, "worker_1", 200).result()
            store.forget_deleted_pages()
            assert not any(
                secret.encode() in path.read_bytes() for path in (file, Path(f"{file}-wal")) if path.exists()
            )
    finally:
        done.set()
        upkeep.join()
        store.close()
