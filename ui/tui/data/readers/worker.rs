//! Threads that work for the terminal: how one is asked something, how it ends, and what happens to a panic
//! in it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use moim_core::panics;
use moim_core::watch::Hints;

use crate::tui::message::{Data, Message, Outcome};

/// A worker that has failed this often is not started again.
const MOST_FAILURES: usize = 3;

/// How long after a failure a worker is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// The worker must end, or no thread listens to it.
#[derive(Debug)]
pub(super) struct Shutdown;

enum Wake<Q> {
    /// Something may have changed.
    Hint,
    Ask(Q),
    Stop,
}

/// A running thread; dropping it asks the thread to end and does not wait for it: a file system
/// that hangs must not hold the terminal up.
pub(super) struct Worker<Q> {
    wakes: Sender<Wake<Q>>,
}

impl<Q: Send + 'static> Worker<Q> {
    /// Starts a thread. A panic of `work` is reported, and `work` starts again.
    pub fn start(
        name: &'static str,
        messages: &Sender<Message>,
        work: impl Fn(&mut Inbox<Q>, &Outbox) -> Result<(), Shutdown> + Send + 'static,
    ) -> Self {
        let (wakes, receiver) = channel();
        let mut inbox = Inbox {
            receiver,
            own: wakes.clone(),
            asked: VecDeque::new(),
            has_hint: false,
            is_over: false,
        };
        let outbox = Outbox {
            messages: messages.clone(),
        };
        spawn(name, messages, move || {
            for _ in 0..MOST_FAILURES {
                let end = catch_unwind(AssertUnwindSafe(|| work(&mut inbox, &outbox)));
                let Err(panic) = end else { return };
                outbox.report_panic(name, panic.as_ref());
                if inbox.sleep(RESTART_AFTER).is_err() {
                    return;
                }
            }
        });
        Self { wakes }
    }

    /// Asks for something.
    pub fn ask(&self, question: Q) {
        // A thread that has ended has reported why.
        let _ = self.wakes.send(Wake::Ask(question));
    }
}

impl<Q> Drop for Worker<Q> {
    fn drop(&mut self) {
        let _ = self.wakes.send(Wake::Stop);
    }
}

/// Does something once, in a separate thread.
pub(super) fn once(
    name: &'static str,
    messages: &Sender<Message>,
    work: impl FnOnce() -> Data + Send + 'static,
) {
    let outbox = Outbox {
        messages: messages.clone(),
    };
    spawn(name, messages, move || {
        match catch_unwind(AssertUnwindSafe(work)) {
            // No thread listens when the program ends.
            Ok(data) => drop(outbox.send(data)),
            Err(panic) => outbox.report_panic(name, panic.as_ref()),
        }
    });
}

fn spawn(name: &'static str, messages: &Sender<Message>, work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().name(format!("moim-{name}"));
    if let Err(error) = thread.spawn(work) {
        let text = format!("{name} cannot be read: the system gives no more threads ({error})");
        let _ = messages.send(Message::Done(Outcome::Failed(text)));
    }
}

/// Notifications that wake a worker; `None` if `is_polling` or the system gives none.
pub(super) fn hints<Q: Send + 'static>(
    is_polling: bool,
    is_of_interest: impl Fn(&Path) -> bool + Send + 'static,
    inbox: &Inbox<Q>,
) -> Option<Hints> {
    if is_polling {
        return None;
    }
    let wake = inbox.alarm_clock();
    Hints::start(is_of_interest, move |_| wake()).ok()
}

/// The channel on which a worker sends what it has found.
pub(super) struct Outbox {
    messages: Sender<Message>,
}

impl Outbox {
    /// Sends what was read.
    pub fn send(&self, data: Data) -> Result<(), Shutdown> {
        self.messages
            .send(Message::Data(data))
            .map_err(|_| Shutdown)
    }

    fn report_panic(&self, name: &str, panic: &(dyn std::any::Any + Send)) {
        let reason = panics::text(panic).unwrap_or("no reason given");
        let text = format!("reading the {name} failed because of a bug in moim: {reason}");
        // No thread listens when the program ends.
        let _ = self.messages.send(Message::Done(Outcome::Failed(text)));
    }
}

/// The questions and hints for a worker.
pub(super) struct Inbox<Q> {
    receiver: Receiver<Wake<Q>>,
    own: Sender<Wake<Q>>,
    asked: VecDeque<Q>,
    has_hint: bool,
    is_over: bool,
}

impl<Q: Send + 'static> Inbox<Q> {
    /// A function that wakes this worker from another thread.
    pub fn alarm_clock(&self) -> impl Fn() + Send + 'static {
        let own = self.own.clone();
        move || {
            // The worker has ended.
            let _ = own.send(Wake::Hint);
        }
    }

    /// Waits for a question, a hint or the time, whichever comes first.
    pub fn wait(&mut self, most: Duration) -> Result<Option<Q>, Shutdown> {
        self.take_all();
        if !self.has_hint && self.asked.is_empty() && !self.is_over {
            match self.receiver.recv_timeout(most) {
                Ok(wake) => self.take(wake),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.is_over = true,
            }
            self.take_all();
        }
        self.has_hint = false;
        if self.is_over {
            return Err(Shutdown);
        }
        Ok(self.asked.pop_front())
    }

    /// The newest question, if there is one; older ones are dropped.
    pub fn newest(&mut self) -> Result<Option<Q>, Shutdown> {
        self.take_all();
        if self.is_over {
            return Err(Shutdown);
        }
        let newest = self.asked.pop_back();
        self.asked.clear();
        Ok(newest)
    }

    /// Whether a question waits.
    pub fn is_asked(&mut self) -> Result<bool, Shutdown> {
        self.take_all();
        if self.is_over {
            Err(Shutdown)
        } else {
            Ok(!self.asked.is_empty())
        }
    }

    /// Waits, whatever is asked or hinted meanwhile. Hints until then are dropped: the caller
    /// looks afterwards anyway.
    pub fn sleep(&mut self, time: Duration) -> Result<(), Shutdown> {
        let end = Instant::now() + time;
        loop {
            if self.is_over {
                return Err(Shutdown);
            }
            match self
                .receiver
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(wake) => self.take(wake),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Err(Shutdown),
            }
        }
        self.has_hint = false;
        Ok(())
    }

    fn take_all(&mut self) {
        while let Ok(wake) = self.receiver.try_recv() {
            self.take(wake);
        }
    }

    fn take(&mut self, wake: Wake<Q>) {
        match wake {
            Wake::Hint => self.has_hint = true,
            Wake::Ask(question) => self.asked.push_back(question),
            Wake::Stop => self.is_over = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_replies_ends_and_survives_its_panics() {
        let (messages, received) = channel();
        let worker = Worker::start("samples", &messages, |inbox, outbox| {
            loop {
                match inbox.wait(Duration::from_secs(60))? {
                    Some(0) => panic!("zero"),
                    Some(number) => outbox.send(Data::Duplicates {
                        of: number.to_string().into(),
                        runs: Vec::new(),
                    })?,
                    None => {}
                }
            }
        });
        drop(messages);
        worker.ask(7);
        let answer = received.recv().unwrap();
        assert!(
            matches!(answer, Message::Data(Data::Duplicates { of, .. }) if of.as_os_str() == "7")
        );
        worker.ask(0);
        match received.recv().unwrap() {
            Message::Done(Outcome::Failed(text)) => {
                assert!(text.contains("samples") && text.contains("zero"), "{text}")
            }
            other => panic!("{other:?}"),
        }
        drop(worker);
        // The last sender goes with the thread.
        assert!(received.recv().is_err());
    }
}
