//! Asks the same again and again, and keeps what the answers add up to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::probe::Prober;
use super::protocol::Watch;
use crate::check::availability::{Answered, Tally, Target};

/// Every watch that goes on, by the request that began it.
#[derive(Default)]
pub(super) struct Watches(Mutex<HashMap<u64, Going>>);

/// A watch that goes on.
struct Going {
    stop: watch::Sender<bool>,
    targets: Vec<JoinHandle<Tally>>,
}

impl Watches {
    /// Begins a watch, and waits until each target has answered once or its patience is over. The time is that since it
    /// began. Where a target did not answer nothing is watched.
    pub(super) async fn begin(
        &self,
        id: u64,
        watch: Watch,
        prober: &Arc<Prober>,
    ) -> (Vec<Result<(), String>>, Duration) {
        let began = Instant::now();
        let (stop, stopped) = watch::channel(false);
        let mut firsts = Vec::new();
        let mut targets = Vec::new();
        for target in watch.targets {
            let (first, answered) = oneshot::channel();
            let one = One {
                target,
                began,
                patience: watch.patience,
                linger: watch.linger,
                allowed: watch.allowed,
                most: watch.most,
                prober: Arc::clone(prober),
            };
            targets.push(tokio::spawn(one.ask(first, stopped.clone())));
            firsts.push(answered);
        }
        let firsts: Vec<Result<(), String>> = join_all(firsts)
            .await
            .into_iter()
            .map(|first| first.unwrap_or_else(|_| Err("the agent's own mistake".to_owned())))
            .collect();
        if firsts.iter().all(Result::is_ok) {
            let going = Going { stop, targets };
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(id, going);
        } else {
            stop.send_replace(true);
        }
        (firsts, began.elapsed())
    }

    /// Ends a watch after one more round, or when nothing is away any more; `None` where there is none of this name.
    pub(super) async fn end(&self, id: u64) -> Option<Vec<Tally>> {
        let going = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id)?;
        going.stop.send_replace(true);
        let mut tallies = Vec::new();
        for target in going.targets {
            tallies.push(target.await.ok()?);
        }
        Some(tallies)
    }
}

/// One target of a watch.
struct One {
    target: Target,
    began: Instant,
    patience: Duration,
    linger: Duration,
    allowed: Duration,
    most: Duration,
    prober: Arc<Prober>,
}

impl One {
    /// Asks at the target's pace. A question that is still waiting for its answer when the next is due takes that one's
    /// place too: they do not pile up on a site that is slow, and since when it did not answer is known all the same.
    /// What came before the first good answer belongs to no window.
    async fn ask(
        self,
        first: oneshot::Sender<Result<(), String>>,
        mut stopped: watch::Receiver<bool>,
    ) -> Tally {
        let mut tally = Tally::default();
        let mut first = Some(first);
        let mut due = self.began;
        let mut ordered: Option<Instant> = None;
        loop {
            // Read before the question: the last one begins after the order to end.
            if *stopped.borrow_and_update() {
                ordered.get_or_insert_with(Instant::now);
            }
            let over = self.began.elapsed() > self.most;
            let asked = self.began.elapsed();
            let (seen, took) = self.prober.probe(self.target.probe.clone()).await;
            let answered = self.target.answered(&seen);
            match (&answered, first.take()) {
                (Answered::Up, Some(first)) => {
                    // Whoever asked may have gone.
                    let _ = first.send(Ok(()));
                }
                (Answered::Down(why) | Answered::Unknown(why), Some(waiting)) => {
                    if over || ordered.is_some() || self.began.elapsed() > self.patience {
                        let _ = waiting.send(Err(why.clone()));
                        return tally;
                    }
                    first = Some(waiting);
                }
                (Answered::Up | Answered::Down(_) | Answered::Unknown(_), None) => {}
            }
            if first.is_none() {
                tally.add(asked, took, answered);
            }
            // How long it stays away is what the limits are about.
            let may_come_back = |since: Instant| {
                tally.away().is_some_and(|sum| sum <= self.allowed)
                    && since.elapsed() <= self.linger
            };
            if over || ordered.is_some_and(|since| !may_come_back(since)) {
                tally.end();
                return tally;
            }
            let now = Instant::now();
            while due <= now {
                due += self.target.every;
            }
            tokio::select! {
                () = sleep_until(due) => {}
                _ = stopped.changed(), if ordered.is_none() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::check::model::{Probe, TcpProbe};

    fn tcp(name: &str, port: u16) -> Target {
        Target {
            name: name.to_owned(),
            probe: Probe::Tcp(TcpProbe {
                host: "127.0.0.1".to_owned(),
                port,
                send: None,
                read: 0,
                timeout: Duration::from_secs(2),
            }),
            statuses: Vec::new(),
            every: Duration::from_millis(50),
        }
    }

    fn watch(targets: Vec<Target>, patience: u64) -> Watch {
        Watch {
            targets,
            patience: Duration::from_millis(patience),
            linger: Duration::ZERO,
            allowed: Duration::ZERO,
            most: Duration::from_secs(60),
        }
    }

    #[tokio::test]
    async fn an_outage_is_one_window_and_one_that_lasts_is_open() {
        let prober = Arc::new(Prober::new().unwrap());
        let watches = Watches::default();
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let goes = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (kept, port) = (
            there.local_addr().unwrap().port(),
            goes.local_addr().unwrap().port(),
        );
        let targets = vec![tcp("there", kept), tcp("goes", port)];
        let (first, _) = watches.begin(7, watch(targets, 2_000), &prober).await;
        assert_eq!(first, [Ok(()), Ok(())]);
        drop(goes);
        // Its absence has been seen when connections to the other one have come in for a while.
        for _ in 0..8 {
            there.accept().await.unwrap();
        }
        let back = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        back.accept().await.unwrap();
        drop(back);
        let tallies = watches.end(7).await.unwrap();
        assert_eq!((tallies[0].failed, tallies[0].count), (0, 0));
        let goes = &tallies[1];
        assert!(goes.failed >= 2 && goes.probes > goes.failed, "{goes:?}");
        assert_eq!(goes.count, 2, "{goes:?}");
        assert!(!goes.windows[0].open && goes.windows[1].open, "{goes:?}");
        assert!(goes.still_down);
        assert!(goes.windows[0].to - goes.windows[0].from >= Duration::from_millis(50));
        assert!(watches.end(7).await.is_none());
    }

    #[tokio::test]
    async fn what_is_away_at_the_end_is_asked_until_it_is_back_or_for_too_long() {
        let prober = Arc::new(Prober::new().unwrap());
        let watches = Watches::default();
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (id, linger, allowed, comes_back) in [
            (1, 30_000, 30_000, true),
            (2, 300, 30_000, false),
            (3, 30_000, 300, false),
        ] {
            let goes = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = goes.local_addr().unwrap().port();
            let mut asked = watch(
                vec![
                    tcp("there", there.local_addr().unwrap().port()),
                    tcp("goes", port),
                ],
                2_000,
            );
            asked.linger = Duration::from_millis(linger);
            asked.allowed = Duration::from_millis(allowed);
            let (first, _) = watches.begin(id, asked, &prober).await;
            assert_eq!(first, [Ok(()), Ok(())]);
            drop(goes);
            // Its absence has been seen when connections to the other one have come in for a while.
            for _ in 0..8 {
                there.accept().await.unwrap();
            }
            let mut end = std::pin::pin!(watches.end(id));
            let mut back = None;
            if comes_back {
                let early = tokio::time::timeout(Duration::from_millis(200), &mut end).await;
                assert!(early.is_err(), "it ended while `goes` was away");
                back = Some(TcpListener::bind(("127.0.0.1", port)).await.unwrap());
            }
            let tallies = end.await.unwrap();
            drop(back);
            assert_eq!(tallies[1].still_down, !comes_back, "{tallies:?}");
            assert_eq!(tallies[1].count, 1, "{tallies:?}");
            assert!(
                tallies[1].downtime >= Duration::from_millis(200),
                "{tallies:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_not_there_before_is_said_and_not_watched() {
        let prober = Arc::new(Prober::new().unwrap());
        let watches = Watches::default();
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let targets = vec![
            tcp("there", there.local_addr().unwrap().port()),
            tcp("gone", gone.local_addr().unwrap().port()),
        ];
        drop(gone);
        let (first, _) = watches.begin(1, watch(targets, 120), &prober).await;
        assert_eq!(first[0], Ok(()));
        let why = first[1].clone().unwrap_err();
        assert!(why.contains("refused"), "{why}");
        assert!(watches.end(1).await.is_none());
    }

    #[tokio::test]
    async fn a_slow_answer_delays_nobody_else_and_questions_do_not_pile_up() {
        let prober = Arc::new(Prober::new().unwrap());
        let watches = Watches::default();
        let quick = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut mute = tcp("slow", slow.local_addr().unwrap().port());
        if let Probe::Tcp(probe) = &mut mute.probe {
            // It waits for a banner that comes with the first connection only.
            probe.read = 1;
            probe.timeout = Duration::from_millis(600);
        }
        let greeter = tokio::spawn(async move {
            let (mut stream, _) = slow.accept().await.unwrap();
            stream.write_all(b"x").await.unwrap();
            let mut open = 0_u32;
            let mut most = 0;
            while let Ok(Ok((mut stream, _))) =
                tokio::time::timeout(Duration::from_secs(1), slow.accept()).await
            {
                open += 1;
                most = most.max(open);
                // It ends when the agent gives up.
                let _ = stream.read(&mut [0]).await;
                open -= 1;
            }
            most
        });
        let targets = vec![tcp("quick", quick.local_addr().unwrap().port()), mute];
        let (first, _) = watches.begin(1, watch(targets, 2_000), &prober).await;
        assert_eq!(first, [Ok(()), Ok(())]);
        for _ in 0..12 {
            quick.accept().await.unwrap();
        }
        let tallies = watches.end(1).await.unwrap();
        assert!(tallies[0].probes >= 12, "{tallies:?}");
        assert!(tallies[1].probes < tallies[0].probes / 2, "{tallies:?}");
        assert_eq!(greeter.await.unwrap(), 1);
    }
}
