//! Group commit: the queue in front of a backend, the thread that commits what has gathered, and the acknowledgements.
//!
//! One group costs one commit of the backend, one lock per writer and one wake-up per writer, however many batches it has.
//! It must not know where the backend keeps things.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::batch::{Batch, Changes};
use super::{Backend, StorageError};

/// Most batches that wait for the disk; more are refused with [`StorageError::Full`].
pub const MAX_QUEUED: usize = 65_536;
/// Most bytes of batches that wait for the disk; more are refused with [`StorageError::Full`].
pub const MAX_QUEUED_BYTES: usize = 16 << 20;
/// Most batches a writer may have submitted without collecting their tokens; more are refused with [`StorageError::Full`].
pub const MAX_UNCOLLECTED: usize = 2 * MAX_QUEUED;

/// Most bytes in one group, save for a larger last batch; what is beyond is the next group. It is far below a segment of
/// sled, so that sled never writes over a segment whose successor is not yet durable (see `sled.rs`).
const MAX_GROUP_BYTES: usize = 256 << 10;
/// How long a batch that nobody waits for may wait for one that somebody does.
pub(super) const NOTE_WAITS: Duration = Duration::from_millis(100);
/// How long the next group may gather for each batch that the last one had.
const GATHER_PER_BATCH: Duration = Duration::from_millis(1);

/// Submits batches without blocking and learns which have become durable. What it takes is on its way after the next [`Self::flush`], so that
/// whatever one turn of a loop leads to is one group.
pub struct Writer {
    committer: Arc<Committer>,
    acks: Arc<Acks>,
    is_flushed: bool,
}

impl Writer {
    pub(super) fn new(committer: Arc<Committer>) -> Self {
        let acks = Arc::new(Acks::default());
        let mut state = lock(&committer.queue.state);
        if let Some(error) = &state.failed {
            acks.fail(error);
        }
        state.writers.retain(|writer| writer.strong_count() > 0);
        state.writers.push(Arc::downgrade(&acks));
        drop(state);
        Self { committer, acks, is_flushed: true }
    }

    /// Takes the batch (its bytes are copied) and gives its token back through [`Self::committed`] once it is durable.
    /// Batches become durable in the order of their submission. Costs a copy and an uncontended lock; never blocks on the disk.
    ///
    /// # Errors
    /// The batch was not taken: [`StorageError::Full`], [`StorageError::TooLarge`] or, for ever, [`StorageError::Failed`].
    pub fn submit(&mut self, batch: &Batch, token: u64) -> Result<(), StorageError> {
        if self.acks.uncollected.load(Ordering::Relaxed) >= MAX_UNCOLLECTED {
            return Err(StorageError::Full);
        }
        self.acks.uncollected.fetch_add(1, Ordering::Relaxed);
        self.is_flushed = false;
        self.committer.submit(batch, Ack::Token(Arc::clone(&self.acks), token)).inspect_err(|_| {
            self.acks.uncollected.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// Takes a batch that nobody waits for: it becomes durable with whatever is submitted next, or a tenth of a second later. Otherwise as
    /// [`Self::submit`].
    ///
    /// # Errors
    /// The batch was not taken, as for [`Self::submit`].
    pub fn note(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.is_flushed = false;
        self.committer.submit(batch, Ack::None)
    }

    /// Sends what was taken since the last time on its way to the disk.
    pub fn flush(&mut self) {
        if !std::mem::replace(&mut self.is_flushed, true) {
            self.committer.queue.wake();
        }
    }

    /// Waits for the next acknowledgements and returns the tokens, in the order of submission, of every batch that became
    /// durable since the last call. Cancel safe.
    ///
    /// # Errors
    /// [`StorageError::Failed`], once: no token still out will ever come. Later calls wait for ever.
    pub async fn committed(&mut self) -> Result<Vec<u64>, StorageError> {
        loop {
            if let Some(outcome) = self.try_committed() {
                return outcome;
            }
            self.acks.wake.notified().await;
        }
    }

    /// Does the same as [`Self::committed`] without waiting.
    pub fn try_committed(&mut self) -> Option<Result<Vec<u64>, StorageError>> {
        let mut done = lock(&self.acks.done);
        if done.tokens.is_empty() {
            return done.failed.take().map(Err);
        }
        let tokens = mem::take(&mut done.tokens);
        self.acks.uncollected.fetch_sub(tokens.len(), Ordering::Relaxed);
        Some(Ok(tokens))
    }
}

/// The acknowledgements on their way to one writer; bounded by [`MAX_UNCOLLECTED`].
#[derive(Default)]
struct Acks {
    done: Mutex<Done>,
    wake: Notify,
    uncollected: AtomicUsize,
}

#[derive(Default)]
struct Done {
    tokens: Vec<u64>,
    failed: Option<StorageError>,
}

impl Acks {
    fn deliver(&self, mut tokens: Vec<u64>) {
        let mut done = lock(&self.done);
        if done.tokens.is_empty() {
            done.tokens = tokens;
        } else {
            done.tokens.append(&mut tokens);
        }
        drop(done);
        self.wake.notify_one();
    }

    fn fail(&self, error: &StorageError) {
        lock(&self.done).failed = Some(error.clone());
        self.wake.notify_one();
    }
}

/// Who is to hear that a batch is durable.
enum Ack {
    /// Nobody.
    None,
    Token(Arc<Acks>, u64),
    Once(oneshot::Sender<Result<(), StorageError>>),
}

/// Batches one after the other, with where each ends.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    entries: Vec<(usize, Ack)>,
    /// Somebody waits for one of them.
    is_awaited: bool,
}

/// What the thread waits for, beside the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    /// It is at work.
    Nothing,
    /// A first batch.
    Batch,
    /// A batch that somebody waits for: there are others.
    Awaited,
}

struct State {
    pending: Pending,
    writers: Vec<Weak<Acks>>,
    failed: Option<StorageError>,
    waits_for: WaitsFor,
    /// Nothing is committed until this ends (tests only).
    held: bool,
    closing: bool,
}

/// The backend, the queue before it, and the thread between them.
pub(crate) struct Committer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

struct Queue {
    backend: Arc<dyn Backend>,
    state: Mutex<State>,
    wake: Condvar,
}

impl Committer {
    /// Makes a committer whose thread commits in groups with pauses of at most `window`. What nobody waits for waits this long for more.
    pub(crate) fn start(backend: Arc<dyn Backend>, window: Duration, note_waits: Duration) -> std::io::Result<Self> {
        let queue = Queue::new(backend);
        let thread = std::thread::Builder::new().name("storage".into()).spawn({
            let queue = Arc::clone(&queue);
            move || queue.run(window, note_waits)
        })?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Makes a committer that commits each batch within its submission.
    pub(crate) fn inline(backend: Arc<dyn Backend>) -> Self {
        Self { queue: Queue::new(backend), thread: None }
    }

    /// Keeps everything taken from now on waiting.
    pub(crate) fn hold(&self) {
        lock(&self.queue.state).held = true;
    }

    /// Ends [`Self::hold`] and commits what waits as one group.
    pub(crate) fn release(&self) {
        lock(&self.queue.state).held = false;
        self.commit_inline();
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        &*self.queue.backend
    }

    pub(super) async fn write(&self, batch: &Batch) -> Result<(), StorageError> {
        let (sender, receiver) = oneshot::channel();
        self.submit(batch, Ack::Once(sender))?;
        self.queue.wake();
        receiver.await.expect("a batch that was taken is acknowledged or failed")
    }

    fn submit(&self, batch: &Batch, ack: Ack) -> Result<(), StorageError> {
        self.queue.submit(batch.checked()?, ack)?;
        if self.thread.is_none() {
            self.commit_inline();
        }
        Ok(())
    }

    fn commit_inline(&self) {
        let mut state = lock(&self.queue.state);
        if !state.held {
            let mut pending = mem::take(&mut state.pending);
            drop(state);
            self.queue.commit(&mut pending);
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        lock(&self.queue.state).closing = true;
        self.queue.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the storage thread ended by a panic");
        }
    }
}

impl Queue {
    fn new(backend: Arc<dyn Backend>) -> Arc<Self> {
        let state = State {
            pending: Pending::default(),
            writers: Vec::new(),
            failed: None,
            waits_for: WaitsFor::Nothing,
            held: false,
            closing: false,
        };
        Arc::new(Self { backend, state: Mutex::new(state), wake: Condvar::new() })
    }

    fn submit(&self, changes: &[u8], ack: Ack) -> Result<(), StorageError> {
        let mut state = lock(&self.state);
        if let Some(failed) = &state.failed {
            return Err(failed.clone());
        }
        let pending = &mut state.pending;
        if pending.entries.len() >= MAX_QUEUED || pending.bytes.len() + changes.len() > MAX_QUEUED_BYTES {
            return Err(StorageError::Full);
        }
        pending.bytes.extend_from_slice(changes);
        pending.is_awaited |= !matches!(ack, Ack::None);
        pending.entries.push((pending.bytes.len(), ack));
        Ok(())
    }

    /// Wakes the thread if there is what it waits for.
    fn wake(&self) {
        let mut state = lock(&self.state);
        let is_there = match state.waits_for {
            WaitsFor::Nothing => false,
            WaitsFor::Batch => !state.pending.entries.is_empty(),
            WaitsFor::Awaited => state.pending.is_awaited,
        };
        if is_there {
            state.waits_for = WaitsFor::Nothing;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// The life of the storage thread.
    fn run(&self, window: Duration, note_waits: Duration) {
        let mut pending = Pending::default();
        let mut pause = Duration::ZERO;
        while self.take(&mut pending, pause, note_waits) {
            let batches = u32::try_from(pending.entries.len()).unwrap_or(u32::MAX);
            pause = match batches {
                0 | 1 => Duration::ZERO, // a writer alone waits for us, not we for more of it
                _ => GATHER_PER_BATCH.saturating_mul(batches).min(window),
            };
            self.commit(&mut pending);
        }
    }

    /// Pauses, waits for at least one batch, and swaps what is there for the empty `pending`. False: nothing more will come.
    fn take(&self, pending: &mut Pending, pause: Duration, note_waits: Duration) -> bool {
        let mut state = lock(&self.state);
        if !pause.is_zero() {
            // Nobody wakes this but the end: that is what makes a submission cheap under load.
            let (woken, _) = self.wake.wait_timeout_while(state, pause, |state| !state.closing).unwrap_or_else(PoisonError::into_inner);
            state = woken;
        }
        while state.pending.entries.is_empty() {
            if state.closing {
                return false;
            }
            state.waits_for = WaitsFor::Batch;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waits_for = WaitsFor::Awaited;
        let waits = |state: &mut State| !state.pending.is_awaited && !state.closing;
        (state, _) = self.wake.wait_timeout_while(state, note_waits, waits).unwrap_or_else(PoisonError::into_inner);
        state.waits_for = WaitsFor::Nothing;
        mem::swap(&mut state.pending, pending);
        true
    }

    /// Commits everything in `pending`, group by group, acknowledges it, and empties it.
    fn commit(&self, pending: &mut Pending) {
        let mut start = 0;
        while !pending.entries.is_empty() {
            let mut group = Vec::with_capacity(pending.entries.len());
            let first = start;
            for (end, _) in &pending.entries {
                if start - first >= MAX_GROUP_BYTES {
                    break;
                }
                group.push(Changes(pending.bytes.get(start..*end).unwrap_or_default()));
                start = *end;
            }
            let committed = catch_unwind(AssertUnwindSafe(|| self.backend.commit(&group)))
                .unwrap_or_else(|_| Err(StorageError::Failed("the store panicked; its message is in the log".into())));
            let batches = group.len();
            if let Err(error) = committed {
                tracing::error!(%error, "storage takes and acknowledges no more writes; restart when its disk is mended");
                self.fail(pending, &error);
                return;
            }
            acknowledge(pending.entries.drain(..batches).map(|(_, ack)| ack));
        }
        pending.bytes.clear();
        pending.is_awaited = false;
    }

    /// Lets everyone know that nothing will be acknowledged any more.
    fn fail(&self, pending: &mut Pending, error: &StorageError) {
        let mut state = lock(&self.state);
        state.failed = Some(error.clone());
        let waiting = mem::take(&mut state.pending);
        let writers = mem::take(&mut state.writers);
        drop(state);
        for (_, ack) in pending.entries.drain(..).chain(waiting.entries) {
            if let Ack::Once(sender) = ack {
                let _gone = sender.send(Err(error.clone()));
            }
        }
        for writer in writers {
            if let Some(acks) = writer.upgrade() {
                acks.fail(error);
            }
        }
    }
}

/// Tells each writer of its tokens: one lock and one wake-up for each run of batches of one writer.
fn acknowledge(acks: impl Iterator<Item = Ack>) {
    let mut run: Option<(Arc<Acks>, Vec<u64>)> = None;
    for ack in acks {
        match (ack, &mut run) {
            (Ack::None, _) => {}
            (Ack::Once(sender), _) => {
                let _gone = sender.send(Ok(()));
            }
            (Ack::Token(acks, token), Some((writer, tokens))) if Arc::ptr_eq(&acks, writer) => tokens.push(token),
            (Ack::Token(acks, token), _) => {
                if let Some((writer, tokens)) = run.replace((acks, vec![token])) {
                    writer.deliver(tokens);
                }
            }
        }
    }
    if let Some((writer, tokens)) = run {
        writer.deliver(tokens);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner) // nothing here panics between two related changes
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::super::{Entry, Storage, Table};
    use super::*;

    /// A backend that tells the keys of each group and commits it when the test lets it.
    struct Gate {
        groups: Mutex<Sender<Vec<Vec<u8>>>>,
        let_through: Mutex<Receiver<Result<(), StorageError>>>,
    }

    impl Backend for Gate {
        fn get(&self, _key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
            Ok(None)
        }

        fn page(&self, _: &[u8], _: Option<&[u8]>, _: &mut Vec<Entry>) -> Result<(), StorageError> {
            Ok(())
        }

        fn commit(&self, batches: &[Changes<'_>]) -> Result<(), StorageError> {
            let keys = batches.iter().copied().flatten().map(|change| change.key[1..].to_vec());
            lock(&self.groups).send(keys.collect()).unwrap();
            lock(&self.let_through).recv().expect("the test ended: a panic of the backend")
        }
    }

    type Groups = Receiver<Vec<Vec<u8>>>;

    fn gated() -> (Storage, Groups, Sender<Result<(), StorageError>>) {
        gated_with(NOTE_WAITS)
    }

    fn gated_with(note_waits: Duration) -> (Storage, Groups, Sender<Result<(), StorageError>>) {
        let ((groups, seen), (go, let_through)) = (channel(), channel());
        let gate = Gate { groups: Mutex::new(groups), let_through: Mutex::new(let_through) };
        let committer = Committer::start(Arc::new(gate), Duration::from_millis(10), note_waits).unwrap();
        (Storage { committer: Arc::new(committer) }, seen, go)
    }

    /// Returns once the thread waits for this, or has sent a group instead.
    fn await_rest(storage: &Storage, groups: &Groups, what: WaitsFor) {
        while lock(&storage.committer.queue.state).waits_for != what {
            assert_eq!(groups.try_recv().ok(), None, "nothing was to be committed");
            std::thread::yield_now();
        }
    }

    fn put(key: u64) -> Batch {
        let mut batch = Batch::new();
        batch.put(Table::Binding, &key.to_be_bytes(), b"value");
        batch
    }

    #[tokio::test]
    async fn what_comes_during_a_commit_is_the_next_group_and_one_message() {
        let (storage, groups, go) = gated();
        let mut writer = storage.writer();
        writer.submit(&put(0), 0).unwrap();
        writer.flush();
        assert_eq!(groups.recv().unwrap(), [0u64.to_be_bytes()], "a lone write does not wait for others");
        for n in 1..100 {
            writer.submit(&put(n), n).unwrap();
        }
        assert!(writer.try_committed().is_none(), "nothing is acknowledged before its commit");
        go.send(Ok(())).unwrap();
        assert_eq!(writer.committed().await, Ok(vec![0]));
        assert_eq!(groups.recv().unwrap(), (1..100u64).map(u64::to_be_bytes).collect::<Vec<_>>());
        go.send(Ok(())).unwrap();
        assert_eq!(writer.committed().await, Ok((1..100).collect()));
    }

    #[tokio::test]
    async fn what_one_turn_takes_is_one_group() {
        let (storage, groups, go) = gated();
        let mut writer = storage.writer();
        for n in 0..3 {
            writer.submit(&put(n), n).unwrap();
        }
        writer.note(&put(3)).unwrap();
        go.send(Ok(())).unwrap();
        writer.flush();
        assert_eq!(groups.recv().unwrap(), (0..4u64).map(u64::to_be_bytes).collect::<Vec<_>>());
        assert_eq!(writer.committed().await, Ok((0..3).collect()), "nobody is told of a note");
    }

    #[test]
    fn a_note_waits_for_a_write() {
        let (storage, groups, _go) = gated_with(Duration::MAX);
        let mut writer = storage.writer();
        writer.note(&put(0)).unwrap();
        writer.flush();
        await_rest(&storage, &groups, WaitsFor::Awaited);
        writer.submit(&put(1), 1).unwrap();
        writer.flush();
        assert_eq!(groups.recv().unwrap(), [0, 1].map(u64::to_be_bytes));
    }

    #[test]
    fn a_note_does_not_wait_for_ever() {
        let (storage, groups, _go) = gated_with(Duration::from_millis(1));
        await_rest(&storage, &groups, WaitsFor::Batch);
        let mut writer = storage.writer();
        writer.note(&put(0)).unwrap();
        writer.flush();
        assert_eq!(groups.recv_timeout(Duration::from_secs(60)).unwrap(), [0u64.to_be_bytes()]);
    }

    #[test]
    fn notes_are_not_counted_against_a_writer() {
        let (storage, _memory) = Storage::memory();
        let mut writer = storage.writer();
        for _ in 0..=MAX_UNCOLLECTED {
            writer.note(&put(0)).unwrap();
        }
        assert_eq!(writer.submit(&put(0), 0), Ok(()));
    }

    #[tokio::test]
    async fn each_writer_hears_of_its_own_tokens_only() {
        let (storage, memory) = Storage::memory();
        let (mut ann, mut bob) = (storage.writer(), storage.writer());
        memory.hold();
        for n in 0..10 {
            ann.submit(&put(n), n).unwrap();
            bob.submit(&put(n), 100 + n).unwrap();
        }
        memory.release();
        assert_eq!(ann.committed().await, Ok((0..10).collect()));
        assert_eq!(bob.committed().await, Ok((100..110).collect()));
    }

    #[test]
    fn a_group_is_bounded_in_bytes_and_nothing_is_lost_between_two() {
        let (storage, groups, go) = gated();
        let mut writer = storage.writer();
        let mut batch = Batch::new();
        for n in 0..100u64 {
            batch.clear();
            batch.put(Table::Cdr, &n.to_be_bytes(), &[0; 10_000]);
            writer.submit(&batch, n).unwrap();
        }
        writer.flush();
        for _ in 0..10 {
            go.send(Ok(())).unwrap();
        }
        drop((writer, storage));
        let groups: Vec<_> = groups.iter().collect();
        assert!(groups.iter().all(|group| group.len() <= MAX_GROUP_BYTES / 10_000 + 1), "bounded");
        assert_eq!(groups.concat(), (0..100u64).map(u64::to_be_bytes).collect::<Vec<_>>(), "in order, each once");
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_takes_again() {
        let (storage, memory) = Storage::memory();
        let mut writer = storage.writer();
        memory.hold();
        for n in 0..MAX_QUEUED as u64 {
            writer.submit(&put(n), n).unwrap();
        }
        assert_eq!(writer.submit(&put(0), 0), Err(StorageError::Full));
        memory.release();
        assert_eq!(writer.submit(&put(0), 7), Ok(()));
        assert_eq!(writer.committed().await.unwrap().len(), MAX_QUEUED + 1);
    }

    #[test]
    fn large_batches_fill_the_queue_by_their_bytes() {
        let (storage, memory) = Storage::memory();
        let mut writer = storage.writer();
        memory.hold();
        let mut batch = Batch::new();
        batch.put(Table::Cdr, b"key", &[0; 16_000]);
        let taken = (0..MAX_QUEUED as u64).take_while(|n| writer.submit(&batch, *n).is_ok()).count();
        assert_eq!(taken, MAX_QUEUED_BYTES / batch.checked().unwrap().len());
    }

    #[test]
    fn a_writer_that_collects_nothing_is_refused() {
        let (storage, _memory) = Storage::memory();
        let mut writer = storage.writer();
        for n in 0..MAX_UNCOLLECTED as u64 {
            writer.submit(&put(0), n).unwrap();
        }
        assert_eq!(writer.submit(&put(0), 0), Err(StorageError::Full));
        assert_eq!(writer.try_committed().unwrap().unwrap().len(), MAX_UNCOLLECTED);
        assert_eq!(writer.submit(&put(0), 0), Ok(()));
    }

    #[tokio::test]
    async fn after_a_failure_nothing_is_acknowledged_or_taken() {
        let (storage, groups, go) = gated();
        let (mut writer, mut idle) = (storage.writer(), storage.writer());
        writer.submit(&put(1), 1).unwrap();
        writer.flush();
        groups.recv().unwrap();
        writer.submit(&put(2), 2).unwrap();
        go.send(Ok(())).unwrap();
        groups.recv().unwrap(); // the first is durable, though not yet collected
        writer.submit(&put(3), 3).unwrap();
        let failed = Err(StorageError::Failed("EIO".into()));
        go.send(failed.clone()).unwrap();
        assert_eq!(idle.committed().await, failed.clone().map(|()| vec![]), "who waits for nothing hears of it too");
        assert_eq!(writer.committed().await, Ok(vec![1]), "what was durable before is acknowledged");
        assert_eq!(writer.committed().await, failed.clone().map(|()| vec![]));
        assert!(writer.try_committed().is_none(), "told once");
        assert_eq!(writer.submit(&put(4), 4), failed);
        assert_eq!(storage.write(&put(5)).await, failed);
        assert_eq!(storage.writer().committed().await, failed.map(|()| vec![]), "a later writer hears of it");
        drop((writer, idle, storage));
        assert!(groups.recv().is_err(), "and nothing was tried again");
    }

    #[tokio::test]
    async fn a_panic_of_the_backend_is_a_failure() {
        let (storage, _groups, go) = gated();
        drop(go);
        assert!(matches!(storage.write(&put(1)).await, Err(StorageError::Failed(_))));
        assert!(matches!(storage.write(&put(2)).await, Err(StorageError::Failed(_))));
    }

    #[test]
    fn the_end_waits_for_what_was_taken() {
        let (storage, groups, go) = gated();
        let mut writer = storage.writer();
        for n in 0..20 {
            writer.submit(&put(n), n).unwrap();
            go.send(Ok(())).unwrap();
        }
        drop((writer, storage));
        assert_eq!(groups.iter().flatten().count(), 20);
    }
}
